"""Sending archived messages again: plan, read, verify, publish."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa

from transforms.brokers import Destination, Publisher
from transforms.errors import ConfigurationError, TransientError
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.replay import preflight
from transforms.replay.figures import Sample, key_to_json
from transforms.replay.lane import Sender, publish_options, replay_lane
from transforms.replay.options import Options
from transforms.replay.planning import survey
from transforms.replay.plans import Plan, PlanStore, load_plan, new_job_id
from transforms.replay.report import Failure, Report
from transforms.replay.retrying import check_retry, delete_plan, freeze_retry
from transforms.replay.routing import is_pattern
from transforms.replay.window_reader import read_window
from transforms.selection import Selection

__all__ = [
    "Failure",
    "LookUp",
    "Options",
    "Plan",
    "Progress",
    "Report",
    "check_retry",
    "delete_plan",
    "freeze_plan",
    "freeze_retry",
    "make_plan",
    "replay_inline",
    "replay_lane",
]

LookUp = Callable[[str], Destination]
"""What a topic of the destination is like; raises ``ConfigurationError`` to refuse it."""

Progress = Callable[[int, int, int], object]
"""Called with messages published, failed and planned, at most once per commit."""


def make_plan(
    index: Index,
    lakes: Sequence[Lake],
    selection: Selection,
    *,
    url: str,
    destination: Destination | LookUp,
    options: Options,
    job: str | None = None,
) -> Plan:
    """Find out what a resubmission would do, and store that unless something speaks against it.

    Nothing is sent. A job that has a stored plan already gets that one, whatever the other arguments
    say. What is stored holds every row, so that workers need no index and new matches change nothing.

    Args:
        index: where the messages are found.
        lakes: every lake that the index may point into; the plan is stored in the first one.
        selection: which messages.
        url: the destination's URL; its topic may be a pattern of ``{topic}``, ``{source}`` and, where
            dead letters are restored, ``{origin}``.
        destination: what :meth:`Publisher.destination` said; with a pattern, how each topic is looked up.
        options: how they are to be sent.
        job: the job's id; a new one where it is None.

    Returns:
        The plan, with ``problems`` where it is not stored.

    Raises:
        ConfigurationError: the pattern cannot be right.
        TransientError: the index or the lake is away.
    """
    job = job or new_job_id()
    stored = _stored(lakes[0], job)
    if stored is not None:
        return stored
    store = PlanStore(lakes[0], job)
    try:
        plan = _make(index, lakes, selection, store.add, url, destination, options, job)
    except (ConfigurationError, TransientError):
        store.abandon()
        raise
    if plan.problems:
        store.abandon()
        return plan
    return store.finish(plan)


def freeze_plan(
    index: Index,
    lakes: Sequence[Lake],
    selection: Selection,
    *,
    url: str,
    destination: Destination | LookUp,
    options: Options,
    job: str | None = None,
) -> Plan:
    """Plan as :func:`make_plan`, for a job that shall run.

    Raises:
        ConfigurationError: the plan has problems, or the pattern cannot be right.
        TransientError: the index or the lake is away.
    """
    plan = make_plan(index, lakes, selection, url=url, destination=destination, options=options, job=job)
    _refuse(plan)
    return plan


def _make(  # noqa: PLR0917 - what its two callers are given
    index: Index,
    lakes: Sequence[Lake],
    selection: Selection,
    keep: Callable[[int, pa.RecordBatch], object],
    url: str,
    destination: Destination | LookUp,
    options: Options,
    job: str,
) -> Plan:
    topic = url.rpartition("/")[2] if callable(destination) else destination.topic
    found = survey(index, lakes, selection, keep, topic=topic, options=options)
    if callable(destination):
        names = list(found.topics) if is_pattern(topic) else [topic]
        destinations = {name: destination(name) for name in names}
    else:
        destinations = {topic: destination}
    plan = preflight.make(found, destinations, options, topic=topic, job=job, selection=selection, url=url)
    return replace(plan, samples=tuple(_with_key(index, sample) for sample in plan.samples))


def _with_key(index: Index, sample: Sample) -> Sample:
    # Asked for these few, instead of having the keys of all in the stream.
    keys = index.get(sample.id)["key"].to_pylist()
    return replace(sample, key=key_to_json(keys[0])) if keys else sample


def replay_inline(
    index: Index,
    lakes: Sequence[Lake],
    selection: Selection,
    *,
    url: str,
    publisher: Publisher,
    destination: Destination,
    options: Options,
    job: str | None = None,
    most: int = 1000,
    progress: Progress | None = None,
) -> tuple[Plan, Report]:
    """Plan and publish a small selection at once, through an open publisher, storing nothing.

    After a crash the same request may publish again. The publisher stays open.

    Args:
        index: where the messages are found.
        lakes: every lake that the index may point into.
        selection: which messages.
        url: the destination's URL, for the record.
        publisher: used by this call alone while it lasts; ``begin`` was called when it was opened.
        destination: what ``publisher.destination()`` said, which may be kept for a while.
        options: how they are to be sent.
        job: the job's id; a new one where it is None.
        most: larger selections are refused, since a job is what they need.
        progress: told what is done.

    Raises:
        ConfigurationError: the plan has problems, or more than ``most`` messages.
        TransientError: index, lake or broker is away; what was sent may have arrived.
    """
    windows: list[pa.RecordBatch] = []
    topic = destination.topic
    found = survey(
        index,
        lakes,
        selection,
        lambda _lane, window: windows.append(window),
        topic=topic,
        options=options,
        most=most,
    )
    if found.figures.messages > most:
        raise ConfigurationError(f"More than {most} messages are selected: start a job for them.")
    job = job or new_job_id()
    plan = preflight.make(
        found, {topic: destination}, options, topic=topic, job=job, selection=selection, url=url
    )
    _refuse(plan)
    return plan, _publish(plan, windows, lakes, publisher, progress)


def _publish(
    plan: Plan,
    windows: Sequence[pa.RecordBatch],
    lakes: Sequence[Lake],
    publisher: Publisher,
    progress: Progress | None,
) -> Report:
    report, started = Report(job=plan.job, destination=plan.topic, planned=plan.messages), time.monotonic()
    sender = Sender(publisher, publish_options(plan, plan.topic))
    for window in windows:
        sender.send(read_window(window, plan, lakes))
        if window is windows[-1] or sender.due():
            for checked in sender.commit(report.done):
                report.add(checked.tally())
            if progress is not None:
                progress(report.published, report.done - report.published, plan.messages)
    report.seconds = time.monotonic() - started
    return report


def _refuse(plan: Plan) -> None:
    if plan.problems:
        raise ConfigurationError(plan.problems)


def _stored(lake: Lake, job: str) -> Plan | None:
    try:
        return load_plan(lake, job)
    except ConfigurationError:
        return None
