"""Compare-and-set changes of a job's row, and the lease on it."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from transforms.errors import ConfigurationError, TransientError
from transforms.indexes import Index
from transforms.job_row import Lease, Row
from transforms.jobs.rows import at

__all__ = [
    "LEASE_SECONDS",
    "HeldError",
    "Note",
    "UnknownJobError",
    "change",
    "has_run_out",
    "held_by",
    "is_free",
    "new_owner",
    "owner_prefix",
    "take",
]

LEASE_SECONDS = 10.0
"""Seconds without renewal after which a holder counts as dead."""
_SKEW_SHOWN = 60.0
"""Seconds by which the clocks of two hosts may differ before what is shown of a lease is wrong."""
_seen: dict[str, tuple[str, float]] = {}
"""By job: the lease of another host as it was last seen here, and since when by our monotonic clock."""
_MOST_SEEN = 10_000
_ATTEMPTS = 200
_LOOK_EVERY = 0.2


class UnknownJobError(ConfigurationError):
    """No job has this id."""


class HeldError(ConfigurationError):
    """Another process holds the job."""


Note = Callable[[Row, Row], Mapping[str, Any] | None]
"""From a row before and after a change to its record in the audit trail, if it has one."""


def change(
    index: Index,
    id: str,
    function: Callable[[Row], Row],
    known: Row | None = None,
    note: Note = lambda _before, _after: None,
) -> Row:
    """Replace a job's row by the result of ``function``, repeated if another change came first.

    Args:
        index: stores the job.
        id: the job's id.
        function: from the current row to the new row; if it raises, nothing changes.
        known: the row as last read, tried first to save a request.
        note: what the audit trail says of the change, stored in the same write. Where nothing
            changes, it is stored too: somebody asked for it.

    Returns:
        The stored row.

    Raises:
        UnknownJobError: the job does not exist.
        TransientError: the index does not answer, or others keep changing the job.
    """
    lost = 0
    for attempt in range(_ATTEMPTS):
        row, known = known or index.get_job(id), None
        if row is None:
            raise UnknownJobError(f"There is no job {id!r}: check the id and `index`.")
        wanted = function(row)
        record = note(row, wanted)
        if wanted == row:
            if record is not None:
                index.append_audit(record)
            return row
        try:
            replaced = index.replace_job(wanted, row["version"], record)
        except TransientError:
            # Only the answer may be lost. To write again is safe, since the version would be another.
            replaced, lost = _is_stored(index, wanted, row["version"], record), lost + 1
            if not replaced and lost > 1:
                raise
        if replaced:
            return {**wanted, "version": row["version"] + 1}
        time.sleep(min(attempt, 10) * 0.001)
    raise TransientError(f"other processes keep changing job {id}")


def _is_stored(index: Index, wanted: Row, version: int, record: Mapping[str, Any] | None) -> bool:
    """Whether it was only the answer to a change that was lost."""
    if record is None:
        return index.get_job(wanted["id"]) == {**wanted, "version": version + 1}
    # Others may have changed the row since; nothing changes a record.
    return [found["id"] for found in index.list_audit(1, before=f"{record['id']}~")] == [record["id"]]


def owner_prefix(host: str, pid: int) -> str:
    """The common prefix of all owner names of this process."""
    return f"{host}:{pid}:"


def new_owner() -> str:
    """A new owner name for leases in this process."""
    return owner_prefix(socket.gethostname(), os.getpid()) + secrets.token_hex(4)


def is_free(row: Row) -> bool:
    """Whether the job's lease looks free or expired at one look: for what is shown and offered."""
    lease = row["lease"]
    return lease is None or str(lease["until"]) < at(0.0 if _is_ours(lease) else -_SKEW_SHOWN)


def has_run_out(row: Row) -> bool:
    """Whether the job may be taken: nobody holds its lease, or who held it has not renewed it.

    Clocks of hosts need not agree: of another host's lease only its renewals count, so it takes
    :data:`LEASE_SECONDS` of looking until it counts as left.
    """
    lease = row["lease"]
    if lease is None or _is_ours(lease):
        return is_free(row)
    now, renewed = time.monotonic(), f"{lease['owner']} {lease['until']}"
    known, since = _seen.pop(row["id"], ("", now))
    if known != renewed:
        since = now
    _seen[row["id"]] = renewed, since  # the last seen stands last
    for id in list(_seen)[: max(len(_seen) - _MOST_SEEN, 0)]:
        _seen.pop(id, None)
    return now - since > LEASE_SECONDS


def _is_ours(lease: Lease) -> bool:
    """Whether it was given by this host, whose clock is one."""
    return str(lease["owner"]).startswith(f"{socket.gethostname()}:")


def held_by(row: Row, owner: str, *, launching: bool = False) -> Row:
    """The row with its lease held by ``owner`` from now on, for a process that it starts if ``launching``."""
    lease: Lease = {"owner": owner, "until": at(LEASE_SECONDS)}
    return {**row, "lease": {**lease, "launching": True} if launching else lease}


def take(
    index: Index,
    id: str,
    owner: str,
    otherwise: Callable[[Row], Row] = lambda row: row,
    *,
    patience: float = 0.0,
    note: Note = lambda _before, _after: None,
) -> Row:
    """Take a job's lease if it is free, already the owner's, or held for the start of this process.

    Args:
        index: stores the job.
        id: the job's id.
        owner: the new holder.
        otherwise: a further change, for a row that was not held for this process.
        patience: seconds to wait for a lease that is held.
        note: as for :func:`change`, of a row that was not held for this process.

    Raises:
        HeldError: another process holds it.
        UnknownJobError: the job does not exist.
        TransientError: the index does not answer.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return change(
                index,
                id,
                lambda row: _taken(row, owner, otherwise),
                note=lambda before, after: None if _is_for_us(before) else note(before, after),
            )
        except HeldError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_LOOK_EVERY)


def _taken(row: Row, owner: str, otherwise: Callable[[Row], Row]) -> Row:
    if _is_for_us(row):
        return held_by(row, owner)
    lease = row["lease"]
    if lease is not None and not has_run_out(row) and lease["owner"] != owner:
        holder = lease["owner"].rpartition(":")[0]
        raise HeldError(f"Process {holder} is working on job {row['id']}: pause it first.")
    return held_by(otherwise(row), owner)


def _is_for_us(row: Row) -> bool:
    """Whether the holder started this process and waits for it to take over."""
    run = row["run"] or {}
    ours = (run.get("host"), run.get("pid")) == (socket.gethostname(), os.getpid())
    return bool(row["lease"] and row["lease"].get("launching")) and ours
