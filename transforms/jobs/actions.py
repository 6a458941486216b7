"""Asking something of a job, with a record in the audit trail: the same for service and command."""

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
        action: as the audit trail calls it.
        function: what becomes of the row; one of :mod:`transforms.jobs.states`.
        who: asks for it.
        others: what the record says besides.

    Raises:
        UnknownJobError: there is no such job.
        WrongStateError: its state does not allow that.
        TransientError: the index is away.
    """
    row = change(index, id, function, note=lambda _, after: record(after, action, who, **others))
    release(index, row)
    return row


def create(index: Index, row: Row, action: str) -> Row:
    """Store a job together with a record of who asked for it; where the answer is lost, ask again.

    Returns:
        The row, or the one that is there already; see :meth:`Index.create_job`.

    Raises:
        TransientError: the index is away, and whether the job is stored is not known.
    """
    noted = record(row, action, row["requested_by"], id=row["id"])
    return retry_call(
        lambda: index.create_job(row, noted), f"store job {row['id']}", give_up_after=_ASKED_AGAIN
    )


def release(index: Index, row: Row) -> None:
    """Let a job be tried again whose retry ``row`` ended before anything counted as sent.

    Raises:
        TransientError: the index is away.
    """
    if (of := row["retry_of"]) and is_void(row):
        with contextlib.suppress(UnknownJobError):  # the index was made anew
            change(index, of, lambda old: _released(old, row["id"]))


def retry_of(index: Index, id: str, who: str | None) -> Row:
    """A job of what another one could not publish, which names it from now on; it is not stored yet.

    One of the command waits, PAUSED, until the command goes on with it.

    Raises:
        UnknownJobError: there is no such job.
        WrongStateError: nothing of it can be tried again, or that was done already.
        TransientError: the index is away.
    """
    by = new_job_id()
    known = index.get_job(id)
    named = known and known["retried_by"]
    if named and (earlier := index.get_job(named)):
        release(index, earlier)  # where whoever ended it died before
    # Whoever dies between the two steps leaves a name that the next one gives to the new job.
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
        **(_waiting(named) if by_command(old) else {}),
    )


def _released(old: Row, by: str) -> Row:
    return {**old, "retried_by": None} if old["retried_by"] == by else old


def _failed(row: Row) -> Selection:
    return Selection(ids=tuple(error["id"] for error in row["errors"]))


def _waiting(id: str) -> dict[str, Any]:
    return {"state": "PAUSED", "reason": f"It waits for the command: persistor resubmit --resume {id}"}
