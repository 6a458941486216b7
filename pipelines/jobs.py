"""The command jobs: lists, watches and controls resubmissions, whoever started them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from functools import partial

from pipelines.connections import patiently
from pipelines.job_rows import user
from pipelines.settings.replay import JobsSettings
from pipelines.terminal.jobs import JobsView
from transforms import registry
from transforms.indexes import Index
from transforms.job_row import Row
from transforms.jobs import states
from transforms.jobs.actions import act, create, retry_of
from transforms.jobs.leases import UnknownJobError
from transforms.jobs.listing import JobFilter, list_page, queue_places
from transforms.jobs.rows import ENDED
from transforms.jobs.states import LISTED

__all__ = ["follow", "run"]

_EVERY = 1.0

_ACTIONS: Mapping[str, Callable[[Row], Row]] = {
    "pause": states.pause,
    "resume": states.resume,
    "cancel": states.cancel,
}


def run(settings: JobsSettings) -> int:
    """List jobs, or carry out an action on one and show it.

    Returns:
        The exit code: 1 if a followed job did not send everything.

    Raises:
        UnknownJobError: the job does not exist.
        WrongStateError: its state does not allow this.
        TransientError: the index did not answer for a minute.
    """
    with closing(registry.index(settings.index).open(settings.index)) as index:
        view = JobsView(as_json=settings.json, places=partial(queue_places, index))
        if settings.job is None:
            found, _ = patiently(lambda: list_page(index, _wanted(settings), settings.limit), "list the jobs")
            view.rows(found)
            return 0
        row = _asked(settings, index, settings.job)
        if settings.follow:
            row = follow(index, row, view)
        view.row(row)
        return int(settings.follow and row["state"] != "COMPLETED")


def follow(index: Index, row: Row, view: JobsView) -> Row:
    """Show a job's progress until it ends; does not wait for a plan.

    Returns:
        The last row.

    Raises:
        TransientError: the index did not answer for a minute.
    """
    with view:
        while row["state"] not in ENDED and row["state"] != "PLANNED":
            view.progress(row)
            time.sleep(_EVERY)
            row = _look(index, row["id"])
        view.progress(row)
    return row


def _wanted(settings: JobsSettings) -> JobFilter:
    names = ("requested_by", "destination", "created_from", "created_to")
    return JobFilter(settings.states or LISTED, **{name: getattr(settings, name) for name in names})


def _asked(settings: JobsSettings, index: Index, id: str) -> Row:
    if settings.action is None:
        return _look(index, id)
    if settings.action == "retry":
        row = retry_of(index, id, user())
        # Only the service itself sends inline.
        return create(index, {**row, "mode": "job"}, "retry")
    if settings.action == "rate":
        rate = asdict(settings.rate)
        return act(index, id, "rate", partial(states.set_rate, rate=rate), user(), rate=rate)
    if settings.action == "approve":
        return act(index, id, "approve", partial(states.approve, who=user()), user())
    return act(index, id, settings.action, _ACTIONS[settings.action], user())


def _look(index: Index, id: str) -> Row:
    row = patiently(lambda: index.get_job(id), f"look up job {id}")
    if row is None:
        raise UnknownJobError(f"There is no job {id!r}: check the id and --index.")
    return row
