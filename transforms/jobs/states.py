"""Which state may follow which: what may be asked of a job, and what becomes of it then."""

from __future__ import annotations

from collections.abc import Mapping

from transforms.errors import ConfigurationError, PersistorError
from transforms.job_row import Progress, Row
from transforms.jobs.leases import is_free
from transforms.jobs.rows import ENDED, UNLIMITED, at, by_command

__all__ = [
    "LISTED",
    "WrongStateError",
    "begin",
    "begin_again",
    "cancel",
    "command_for",
    "is_void",
    "pause",
    "possible",
    "resume",
    "retry",
    "run",
    "set_rate",
]


LISTED = ("RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED")
"""The states that a list shows unless it is asked for one: all but plans."""


class WrongStateError(PersistorError):
    """A job is in a state in which it cannot be done what is asked.

    Attributes:
        possible: what can be asked of it instead.
    """

    exit_code = 2

    def __init__(self, row: Row, action: str) -> None:
        self.possible = possible(row)
        if action == "run" and row["state"] == "COMPLETED":
            super().__init__("It was sent already (COMPLETED); make a new plan to send it again.")
            return
        instead = f"possible: {', '.join(self.possible)}" if self.possible else "nothing is possible any more"
        what = {"rate": "a new rate"}.get(action, action)
        how = command_for(row, action)
        why = f"the command's own: {how} does that" if how else f"{row['state']}, which does not allow {what}"
        super().__init__(f"The resubmission is {why}; {instead}.")


def possible(row: Row) -> list[str]:
    """What may be asked of a job as it is: ``run pause resume cancel retry rate``."""
    state = row["state"]
    if state == "PLANNED":
        return ["run", "cancel"] if _is_ready(row) and not by_command(row) else ["cancel"]
    if state == "RUNNING":
        return ["pause", "cancel", "rate"] if row["mode"] == "job" else []
    if state == "PAUSED":
        # No service can start the command again, but one that follows its job waits for this.
        goes_on = not by_command(row) or not is_free(row)
        return ["resume", "cancel", "rate"] if goes_on else ["cancel", "rate"]
    if state == "CANCELLING":
        return ["cancel"] if _is_left(row) else []
    return _after_the_end(row) if state in ENDED else []


def _after_the_end(row: Row) -> list[str]:
    if row["cleared"] or is_void(row):
        return []
    if _may_go_on(row):  # what failed so far is tried again when all is dealt with
        return [] if by_command(row) else ["resume"]
    progress = row["progress"]
    # Of one that was sent inline nothing is kept in the lake: its failures are known by the first hundred.
    kept = row["mode"] == "job" or progress["failed"] == len(row["errors"])
    return ["retry"] if progress["failed"] and kept and row["retried_by"] is None else []


def is_void(row: Row) -> bool:
    """Whether it is a retry that ended before anything counted as sent: another may take its place."""
    progress = row["progress"]
    lost = row["state"] == "FAILED" and row["mode"] == "inline" and not progress["planned"]
    return bool(row["retry_of"]) and (lost or row["state"] == "CANCELLED") and not progress["published"]


def _is_ready(row: Row) -> bool:
    return row["state"] == "PLANNED" and row["plan"] is not None and not row["plan"]["problems"]


def _is_left(row: Row) -> bool:
    """Whether the command's process is gone: the service, which settles its own jobs, may not be there."""
    return by_command(row) and is_free(row)


def _may_go_on(row: Row) -> bool:
    """Whether it failed before all of it was dealt with."""
    progress = row["progress"]
    done = bool(row["plan"]) and progress["published"] + progress["failed"] >= progress["planned"]
    return row["state"] == "FAILED" and row["mode"] == "job" and not done


def command_for(row: Row, action: str) -> str | None:
    """How what is asked is done where no service can, since its destination has no name there."""
    if not by_command(row) or row["cleared"]:
        return None
    if action == "run" and _is_ready(row):
        return f"persistor resubmit --plan {row['id']}"
    resumable = (row["state"] == "PAUSED" and is_free(row)) or _may_go_on(row)
    return f"persistor resubmit --resume {row['id']}" if action == "resume" and resumable else None


def run(row: Row, requested_by: str | None, rate: Mapping[str, float | None] = UNLIMITED) -> Row:
    """A plan that shall run. Raises ``WrongStateError``, as do the others."""
    _check(row, "run")
    return begin(row, requested_by, rate)


def begin(row: Row, requested_by: str | None, rate: Mapping[str, float | None] = UNLIMITED) -> Row:
    """A plan that the command runs, be it the command's or the service's."""
    if not _is_ready(row):
        raise WrongStateError(row, "run")
    return {
        **row,
        "requested_by": requested_by,
        "rate": dict(rate),
        "state": "RUNNING",
        "mode": "job",
        "reason": None,
    }


def pause(row: Row) -> Row:
    """A job that shall send no more for now; what it has sent stays sent."""
    _check(row, "pause")
    return {**row, "state": "PAUSED", "reason": None}


def resume(row: Row) -> Row:
    """A job that shall go on where it was."""
    _check(row, "resume")
    return _running(row)


def begin_again(row: Row) -> Row:
    """A job that somebody goes on with by the command, whatever it ended or waits for."""
    if row["state"] == "PLANNED":
        raise ConfigurationError(f"Job {row['id']} is a plan: run it with --plan {row['id']}.")
    if row["state"] in {"CANCELLED", "CANCELLING"}:
        raise ConfigurationError(f"Job {row['id']} was cancelled: start a new one.")
    if row["cleared"]:
        raise ConfigurationError(f"Job {row['id']} has ended for good: start a new one.")
    if row["mode"] == "inline":
        raise ConfigurationError(f"Job {row['id']} was sent by the service at once: start a new one.")
    return _running(row)


def cancel(row: Row) -> Row:
    """A job that shall end; at once where nobody works on it."""
    _check(row, "cancel")
    if not is_free(row) or (row["state"] == "RUNNING" and not _is_left(row)):
        return {**row, "state": "CANCELLING", "reason": None}
    progress: Progress = {**row["progress"], "rate": None, "seconds_left": None}
    return {
        **row, "state": "CANCELLED", "reason": "It was cancelled.", "finished": at(), "progress": progress
    }  # fmt: skip


def set_rate(row: Row, rate: Mapping[str, float | None]) -> Row:
    """A job that shall go at most so fast from now on."""
    _check(row, "rate")
    return {**row, "rate": dict(rate)}


def retry(row: Row, by: str) -> Row:
    """A job whose failed messages the job ``by`` sends."""
    _check(row, "retry")
    return {**row, "retried_by": by}


def _running(row: Row) -> Row:
    return {**row, "state": "RUNNING", "reason": None, "finished": None, "report": None, "attempts": 0}


def _check(row: Row, action: str) -> None:
    if action not in possible(row):
        raise WrongStateError(row, action)
