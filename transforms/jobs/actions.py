"""Actions on a job, each recorded in the audit trail, for service and command alike."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from transforms.indexes import Index
from transforms.job_row import Row
from transforms.jobs.leases import UnknownJobError, change
from transforms.jobs.rows import by_command, new_row, options_of, record, selection_of
from transforms.jobs.states import WrongStateError, is_void, retry
from transforms.replay.plans import new_job_id
from transforms.retry import retry as retry_call
from transforms.selection import Selection

__all__ = ["act", "create", "release", "retry_of"]

_ASKED_AGAIN = 5.0
"""Seconds in which a lost answer is asked for again, with the same id."""


def act(
    index: Index, id: str, action: str, function: Callable[[Row], Row], who: str | None, **others: Any
) -> Row:
    """Change a job as :func:`transforms.jobs.change` does; the record of who asked is in the same write.

    Args:
        index: where the job is kept.
        id: the job's id.
        action: its name in the audit trail.
        function: computes the new row; one of :mod:`transforms.jobs.states`.
        who: the caller.
        others: further fields of the record.

    Raises:
        UnknownJobError: the job does not exist.
        WrongStateError: its state does not allow this.
        TransientError: the index does not answer.
    """
    row = change(index, id, function, note=lambda _, after: record(after, action, who, **others))
    release(index, row)
    return row


def create(index: Index, row: Row, action: str) -> Row:
    """Store a job together with a record of who asked for it; where the answer is lost, ask again.

    Returns:
        The row, or an existing one; see :meth:`Index.create_job`.

    Raises:
        TransientError: the index is away, and whether the job is stored is not known.
    """
    noted = record(row, action, row["requested_by"], id=row["id"])
    return retry_call(
        lambda: index.create_job(row, noted), f"store job {row['id']}", give_up_after=_ASKED_AGAIN
    )


def release(index: Index, row: Row) -> None:
    """Allow another retry of a job, because its retry ``row`` ended before anything was sent.

    Raises:
        TransientError: the index does not answer.
    """
    if (of := row["retry_of"]) and is_void(row):
        with contextlib.suppress(UnknownJobError):  # the index was created anew
            change(index, of, lambda old: _released(old, row["id"]))


def retry_of(index: Index, id: str, who: str | None) -> Row:
    """A new job for the failed messages of another one, which now refers to it; it is not stored yet.

    A job of the command stays PAUSED until the command continues it.

    Raises:
        UnknownJobError: the job does not exist.
        WrongStateError: nothing can be retried, or it was retried already.
        TransientError: the index does not answer.
    """
    by = new_job_id()
    known = index.get_job(id)
    named = known and known["retried_by"]
    if named and (earlier := index.get_job(named)):
        release(index, earlier)  # if the process that ended it died before
    # A process that dies between the two steps leaves an id that the next one gives to the new job.
    old = change(index, id, lambda row: row if row["retried_by"] else retry(row, by))
    named = old["retried_by"] or by
    if named != by and index.get_job(named) is not None:
        raise WrongStateError(old, "retry")
    return new_row(
        id=named,
        retry_of=old["id"],
        destination=old["destination"],
        topic=old["topic"],
        selection=_failed(old) if old["mode"] == "inline" else selection_of(old),
        options=options_of(old),
        requested_by=who,
        mode=old["mode"],
        rate=old["rate"],
        note=old.get("note"),
        **(_waiting(named) if by_command(old) else {}),
    )


def _released(old: Row, by: str) -> Row:
    return {**old, "retried_by": None} if old["retried_by"] == by else old


def _failed(row: Row) -> Selection:
    return Selection(ids=tuple(error["id"] for error in row["errors"]))


def _waiting(id: str) -> dict[str, Any]:
    return {"state": "PAUSED", "reason": f"Run the command to start it: persistor resubmit `resume: {id}`"}
