"""Replay, the engine of resubmissions: plan, read, verify and publish archived messages."""

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
from transforms.replay.archived import with_archives
from transforms.replay.figures import Sample, key_to_json
from transforms.replay.lane import replay_lane
from transforms.replay.options import Options
from transforms.replay.planning import survey
from transforms.replay.plans import Plan, PlanStore, load_plan, new_job_id
from transforms.replay.rechecking import check_rest
from transforms.replay.report import Failure, Report
from transforms.replay.retrying import check_retry, delete_plan, freeze_retry
from transforms.replay.routing import is_pattern
from transforms.replay.sender import Sender, publish_options
from transforms.replay.window_reader import read_window
from transforms.selection import Selection

__all__ = [
    "Failure",
    "LookUp",
    "Options",
    "Plan",
    "Progress",
    "Report",
    "check_rest",
    "check_retry",
    "delete_plan",
    "freeze_plan",
    "freeze_retry",
    "make_plan",
    "replay_inline",
    "replay_lane",
]

LookUp = Callable[[str], Destination]
"""Looks up a topic of the destination; raises ``ConfigurationError`` to refuse it."""

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
    """Plan a resubmission, and store the plan unless it has problems.

    Nothing is sent. If the job already has a stored plan, that one is returned and the other arguments are
    ignored. The stored plan holds every row, so workers need no index and new matches change nothing.

    Args:
        index: finds the messages.
        lakes: every lake that the index may refer to; the first one stores the plan.
        selection: which messages.
        url: the destination's URL; its topic may be a pattern of ``{topic}``, ``{source}`` and, if dead
            letters are restored, ``{origin}``.
        destination: result of :meth:`Publisher.destination`; with a pattern, looks up each topic.
        options: how they are sent.
        job: the job's id; None creates a new one.

    Returns:
        The plan; if it has ``problems``, it is not stored.

    Raises:
        ConfigurationError: the pattern is not valid.
        TransientError: the index or the lake does not answer.
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
    """Plan like :func:`make_plan`, for a job that will run.

    Raises:
        ConfigurationError: the plan has problems, or the pattern is not valid.
        TransientError: the index or the lake does not answer.
    """
    plan = make_plan(index, lakes, selection, url=url, destination=destination, options=options, job=job)
    _refuse(plan)
    return plan


def _make(  # noqa: PLR0917 - the arguments of its two callers
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
    destinations = {name: with_archives(one, lakes) for name, one in destinations.items()}
    plan = preflight.make(found, destinations, options, topic=topic, job=job, selection=selection, url=url)
    return replace(plan, samples=tuple(_with_key(index, sample) for sample in plan.samples))


def _with_key(index: Index, sample: Sample) -> Sample:
    # Looked up for these few, instead of carrying all keys in the stream.
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
    """Plan and publish a small selection at once through an open publisher; nothing is stored.

    After a crash the same request may publish again. The publisher stays open.

    Args:
        index: finds the messages.
        lakes: every lake that the index may refer to.
        selection: which messages.
        url: the destination's URL, for the record.
        publisher: used by this call alone meanwhile; ``begin`` was called when it was opened.
        destination: result of ``publisher.destination()``, which may be cached.
        options: how they are sent.
        job: the job's id; None creates a new one.
        most: larger selections are refused, because they need a job.
        progress: called with the progress.

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
    known = with_archives(destination, lakes)
    plan = preflight.make(found, {topic: known}, options, topic=topic, job=job, selection=selection, url=url)
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
