"""The states of a job, the actions possible in each, and the state that follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from transforms.errors import ConfigurationError, PersistorError
from transforms.job_row import Progress, Row, State
from transforms.jobs.leases import is_free
from transforms.jobs.rows import ENDED, UNLIMITED, at, by_command

__all__ = [
    "LISTED",
    "WrongStateError",
    "approve",
    "begin",
    "begin_again",
    "cancel",
    "command_for",
    "is_approved",
    "is_void",
    "pause",
    "possible",
    "resume",
    "retry",
    "run",
    "set_note",
    "set_rate",
    "shown_state",
    "stored_states",
]


LISTED = ("QUEUED", "RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED")
"""The states listed by default: all except plans."""


class WrongStateError(PersistorError):
    """The state of a job does not allow an action.

    Attributes:
        possible: the actions that are possible instead.
    """

    exit_code = 2

    def __init__(self, row: Row, action: str) -> None:
        self.possible = possible(row)
        if action == "run" and row["state"] == "COMPLETED":
            super().__init__("It was sent already (COMPLETED); make a new plan to send it again.")
            return
        instead = f"possible: {', '.join(self.possible)}" if self.possible else "no action is possible"
        what = {"rate": "a new rate"}.get(action, action)
        how = command_for(row, action)
        why = f"the command's own: {how} does that" if how else f"{row['state']}, which does not allow {what}"
        super().__init__(f"The resubmission is {why}; {instead}.")


def possible(row: Row) -> list[str]:
    """The actions possible on a job now: ``approve run pause resume cancel retry rate``."""
    state = row["state"]
    if state == "PLANNED":
        if _is_ready(row) and not is_approved(row):
            return ["approve", "cancel"]
        return ["run", "cancel"] if _is_ready(row) and not by_command(row) else ["cancel"]
    if state == "RUNNING":
        return ["pause", "cancel", "rate"] if row["mode"] == "job" else []
    if state == "PAUSED":
        # No service can restart the command, but a command that follows its job waits for this.
        goes_on = not by_command(row) or not is_free(row)
        return ["resume", "cancel", "rate"] if goes_on else ["cancel", "rate"]
    if state == "CANCELLING":
        return ["cancel"] if _is_left(row) else []
    return _after_the_end(row) if state in ENDED else []


def _after_the_end(row: Row) -> list[str]:
    if row["cleared"] or is_void(row):
        return []
    if _may_go_on(row):  # failed messages are retried after all messages are handled
        return [] if by_command(row) else ["resume"]
    progress = row["progress"]
    # An inline job stores nothing in the lake: only its first hundred failures are known.
    kept = row["mode"] == "job" or progress["failed"] == row.get("errors_listed", len(row["errors"]))
    return ["retry"] if progress["failed"] and kept and row["retried_by"] is None else []


def is_void(row: Row) -> bool:
    """Whether it is a retry that ended before anything was sent: another may take its place."""
    progress = row["progress"]
    lost = row["state"] == "FAILED" and row["mode"] == "inline" and not progress["planned"]
    return bool(row["retry_of"]) and (lost or row["state"] == "CANCELLED") and not progress["published"]


def _is_ready(row: Row) -> bool:
    return row["state"] == "PLANNED" and row["plan"] is not None and not row["plan"]["problems"]


def is_approved(row: Row) -> bool:
    """Whether a plan may be run: a second person has approved it, or none has to."""
    approval = row.get("approval")
    return approval is None or (approval["by"] is not None and approval["by"] != approval["planned_by"])


def _has_begun(row: Row) -> bool:
    """Whether a job of the service has lanes that may keep progress at the destination."""
    return bool(row["progress"]["published"]) and not by_command(row)


def _is_left(row: Row) -> bool:
    """Whether the command's process is gone; a service, which settles its own jobs, may not be running."""
    return by_command(row) and is_free(row)


def _may_go_on(row: Row) -> bool:
    """Whether it failed before all its messages were handled."""
    progress = row["progress"]
    done = bool(row["plan"]) and progress["published"] + progress["failed"] >= progress["planned"]
    return row["state"] == "FAILED" and row["mode"] == "job" and not done


def command_for(row: Row, action: str) -> str | None:
    """The command that carries out an action on a job whose destination has no name in the service."""
    if not by_command(row) or row["cleared"]:
        return None
    if action == "run" and _is_ready(row) and is_approved(row):
        return f"persistor resubmit `plan: {row['id']}`"
    resumable = (row["state"] == "PAUSED" and is_free(row)) or _may_go_on(row)
    return f"persistor resubmit `resume: {row['id']}`" if action == "resume" and resumable else None


def shown_state(row: Row) -> State:
    """The state that people see: a job of the service that nobody works on is queued."""
    waits = row["state"] == "RUNNING" and row["mode"] == "job" and not by_command(row) and is_free(row)
    return "QUEUED" if waits else row["state"]


def stored_states(shown: Iterable[str]) -> list[str]:
    """The states of the rows among which those with the ``shown`` states are."""
    return sorted({"RUNNING" if state == "QUEUED" else state for state in shown})


def run(row: Row, requested_by: str | None, rate: Mapping[str, float | None] = UNLIMITED) -> Row:
    """Run a plan. Raises ``WrongStateError``, like the other functions."""
    _check(row, "run")
    return begin(row, requested_by, rate)


def begin(row: Row, requested_by: str | None, rate: Mapping[str, float | None] = UNLIMITED) -> Row:
    """Run a plan by the command, whoever made it."""
    if not _is_ready(row) or not is_approved(row):
        raise WrongStateError(row, "run")
    return {
        **row,
        "requested_by": requested_by,
        "rate": dict(rate),
        "state": "RUNNING",
        "mode": "job",
        "reason": None,
    }


def approve(row: Row, who: str | None) -> Row:
    """Approve a plan. Raises ``ConfigurationError`` for who asked for it."""
    _check(row, "approve")
    approval = row["approval"]
    if who is None or who == approval["planned_by"]:
        raise ConfigurationError("Who asked for a plan cannot approve it: another person must.")
    return {**row, "approval": {**approval, "by": who, "at": at()}}


def pause(row: Row) -> Row:
    """Pause a job; messages already sent stay sent."""
    _check(row, "pause")
    return {**row, "state": "PAUSED", "reason": None}


def resume(row: Row) -> Row:
    """Resume a job where it stopped."""
    _check(row, "resume")
    return _running(row)


def begin_again(row: Row) -> Row:
    """Continue a job by the command, from any state that allows it."""
    if row["state"] == "PLANNED":
        raise ConfigurationError(f"Job {row['id']} is a plan: run it with `plan: {row['id']}`.")
    if row["state"] in {"CANCELLED", "CANCELLING"}:
        raise ConfigurationError(f"Job {row['id']} was cancelled: start a new one.")
    if row["cleared"]:
        raise ConfigurationError(f"Job {row['id']} has ended for good: start a new one.")
    if row["mode"] == "inline":
        raise ConfigurationError(f"Job {row['id']} was sent inline by the service: start a new one.")
    return _running(row)


def cancel(row: Row) -> Row:
    """Cancel a job; at once if nobody works on it, and nothing is left of it at its destination."""
    _check(row, "cancel")
    settled = row["state"] == "PLANNED" or _is_left(row) or (row["state"] == "PAUSED" and not _has_begun(row))
    if not is_free(row) or not settled:
        return {**row, "state": "CANCELLING", "reason": None}
    progress: Progress = {**row["progress"], "rate": None, "seconds_left": None}
    return {
        **row, "state": "CANCELLED", "reason": "It was cancelled.", "finished": at(), "progress": progress
    }  # fmt: skip


def set_rate(row: Row, rate: Mapping[str, float | None]) -> Row:
    """Change the maximum rate of a job."""
    _check(row, "rate")
    return {**row, "rate": dict(rate)}


def retry(row: Row, by: str) -> Row:
    """Record that job ``by`` retries the failed messages."""
    _check(row, "retry")
    return {**row, "retried_by": by}


def set_note(row: Row, note: str | None) -> Row:
    """Change what is noted about a job, in any state."""
    return {**row, "note": note}


def _running(row: Row) -> Row:
    again: Row = {**row, "state": "RUNNING", "reason": None, "finished": None, "report": None, "attempts": 0}
    return {**again, "notify": "due"} if "notify" in row else again


def _check(row: Row, action: str) -> None:
    if action not in possible(row):
        raise WrongStateError(row, action)
