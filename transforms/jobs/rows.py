"""The row of a job, and its changes while the job runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import Any, Literal, cast

from transforms.job_row import Progress, Row, SourceProgress, State
from transforms.replay.control import Wish
from transforms.replay.options import Options
from transforms.replay.plans import Plan, new_job_id
from transforms.replay.report import Report, Tally
from transforms.selection import Selection
from transforms.times import iso_time

__all__ = [
    "ENDED",
    "UNLIMITED",
    "at",
    "by_command",
    "ended",
    "failed",
    "finished",
    "new_row",
    "options_of",
    "outcome",
    "planned",
    "progressed",
    "record",
    "selection_of",
    "waits",
    "wish_of",
]

ENDED = frozenset({"CANCELLED", "COMPLETED", "FAILED"})
UNLIMITED = {"messages_per_second": None, "bytes_per_second": None}
_TIMES = {"oldest", "newest", "publish_time", "start"}
_WISHES: dict[str, Any] = {"PAUSED": "pause", "CANCELLING": "cancel", "CANCELLED": "cancel"}


def new_row(
    *,
    destination: str,
    topic: str,
    selection: Selection,
    options: Options,
    requested_by: str | None,
    mode: Literal["inline", "job"] = "job",
    state: State = "RUNNING",
    rate: Mapping[str, float | None] = UNLIMITED,
    **others: Any,
) -> Row:
    """The row of a new job.

    Args:
        destination: the configured name, or the URL given to the command.
        topic: may be a pattern with ``{topic}``.
        selection: what to send; it never changes.
        options: how.
        requested_by: the caller.
        mode: ``inline`` if the service sends the messages itself, else ``job``.
        state: ``RUNNING``, or ``PLANNED`` if nothing is to be sent yet.
        rate: ``messages_per_second`` and ``bytes_per_second``, None is unlimited.
        others: ``id``, ``lease``, ``idempotency_key``, ``request``, ``retry_of``, ``note``, ``notify``,
            ``approval``, if given.
    """
    made: Row = {
        "id": new_job_id(),
        "version": 0,
        "state": state,
        "reason": None,
        "mode": mode,
        "requested_by": requested_by,
        "created": at(),
        "started": None,
        "finished": None,
        "destination": destination,
        "topic": topic,
        "selection": json.loads(selection.to_json()),
        "options": asdict(options),
        "plan": None,
        "rate": dict(rate),
        "progress": {"planned": 0, "published": 0, "failed": 0},
        "errors": [],
        "report": None,
        "lease": None,
        "attempts": 0,
        "retry_of": None,
        "retried_by": None,
        "idempotency_key": None,
        "request": None,
        "run": None,
        "cleared": None,
    }
    return cast("Row", {**made, **others})


def by_command(row: Row) -> bool:
    """Whether the command created it: its destination is then an address, not a configured name."""
    return "://" in row["destination"]


def selection_of(row: Row) -> Selection:
    """The selection of a job."""
    return Selection.model_validate(row["selection"])


def options_of(row: Row) -> Options:
    """The options of a job."""
    return Options(**row["options"])


def wish_of(row: Row) -> Wish:
    """The wish for the job's lanes."""
    return Wish(_WISHES.get(row["state"], "run"), **row["rate"])


def planned(row: Row, plan: Plan) -> Row:
    """The row with the plan's figures."""
    figures = plan.report() | {"destination": row["destination"], "topic": row["topic"]}
    for part in (figures, *figures["sources"], *figures["samples"], figures["histogram"] or {}):
        part |= {name: _precise(part[name]) for name in _TIMES & part.keys()}
    sources: dict[str, SourceProgress] = {
        s.source: {"planned": s.messages, "published": 0, "failed": 0} for s in plan.sources
    }
    # Counts that an earlier run had already confirmed.
    known = row["progress"] if row["plan"] else None
    progress: Progress = {
        "planned": plan.messages,
        "published": known["published"] if known else 0,
        "failed": known["failed"] if known else 0,
        "sources": sources,
    }
    started = row["started"] if row["state"] == "PLANNED" else row["started"] or at()
    return {**row, "started": started, "plan": figures, "progress": progress}


def progressed(row: Row, tally: Tally, rate: float | None = None) -> Row:
    """The row with the confirmed progress; ``rate`` is the current messages per second."""
    failed = sum(tally.failed.values())
    left = row["progress"]["planned"] - tally.done
    sources = row["progress"].get("sources", {})
    progress: Progress = {
        **row["progress"],
        "published": tally.published,
        "failed": failed,
        "rate": rate,
        "seconds_left": left / rate if rate else None,
        "last_publish_time": _precise(iso_time(tally.last_publish_time_us)),
        "sources": {
            name: cast("SourceProgress", {**source, **tally.sources.get(name, {})})
            for name, source in sources.items()
        },
    }
    moved = tally.done > row["progress"]["published"] + row["progress"]["failed"]
    return {
        **row,
        "progress": progress,
        "errors": [asdict(error) for error in tally.errors],
        "attempts": 0 if moved else row["attempts"],
    }


def waits(row: Row, trouble: str | None) -> Row:
    """The row of a running job, with the cause of its waiting as reason."""
    if row["state"] != "RUNNING":
        return row
    return {**row, "reason": trouble and f"Waiting to try again: {trouble}"}


def finished(row: Row, report: Report, *, stopped: bool = False) -> Row:
    """The row after its lanes have ended, with its lease released.

    Args:
        row: the stored row.
        report: the result of all runs.
        stopped: whether they ended early because their process was asked to stop.
    """
    # An ended job has no rate and no time left.
    row = {**progressed(row, outcome(report)), "lease": None}
    left = report.planned - row["progress"]["published"] - row["progress"]["failed"]
    if left <= 0:
        return ended(row, report)
    if row["state"] == "CANCELLING":
        reason = f"It was cancelled; {left:,} of {report.planned:,} messages were not sent."
        return {**ended(row, report), "state": "CANCELLED", "reason": reason}
    if row["state"] == "RUNNING" and by_command(row):
        why = "Its process was stopped" if stopped else "It ended before all messages were sent"
        return {**row, "state": "PAUSED", "reason": f"{why}; it can be resumed."}
    if row["state"] == "RUNNING" and stopped:
        # Nobody has paused it. An orderly end is no loss, of which only some are allowed.
        attempts = max(row["attempts"] - 1, 0)
        return {
            **row,
            "attempts": attempts,
            "reason": "Its process was stopped; the service will take it up again.",
        }
    return row


def ended(row: Row, report: Report) -> Row:
    """The row with its final report: COMPLETED if every message was published."""
    missing = row["progress"]["planned"] - row["progress"]["published"]
    result = {name: value for name, value in report.to_dict().items() if name != "errors"}
    return {
        **row,
        "state": "FAILED" if missing else "COMPLETED",
        "reason": f"{missing:,} of {report.planned:,} messages were not published." if missing else None,
        "finished": at(),
        "lease": None,
        "report": result,
    }


def failed(row: Row, reason: str) -> Row:
    """The row of a job that cannot continue."""
    progress: Progress = {**row["progress"], "rate": None, "seconds_left": None}
    # Continuing with a plan would send messages that nobody has reviewed.
    unseen = row["state"] == "PLANNED" or (row["state"] == "CANCELLING" and row["plan"] is None)
    now = at()
    cleared = now if unseen else row["cleared"]
    return {
        **row, "state": "FAILED", "reason": reason, "finished": now, "lease": None, "progress": progress,
        "cleared": cleared,
    }  # fmt: skip


def record(row: Row, action: str, who: str | None, **others: Any) -> dict[str, Any]:
    """A record of the audit trail: who did what to which job, with its sources and destination.

    Args:
        row: the job.
        action: as the audit trail calls it.
        who: the caller.
        others: further or replaced fields.
    """
    plan = row["plan"]
    sources = [s["source"] for s in plan["sources"]] if plan else row["selection"].get("sources", [])
    return {
        "id": new_job_id(),
        "time": at(),
        "who": who,
        "action": action,
        "job": row["id"],
        "sources": sources,
        "destination": row["destination"],
        "topic": row["topic"],
        "messages": plan["messages"] if plan else None,
        **({"note": note} if (note := row.get("note")) else {}),
        **others,
    }


def at(seconds: float = 0.0) -> str:
    """A time this many seconds from now, ISO 8601 in UTC with microseconds; such texts sort by time."""
    return _iso(datetime.now(timezone.utc) + timedelta(seconds=seconds))


def outcome(report: Report) -> Tally:
    """The outcome of the messages in all runs."""
    names = ("failed", "errors", "sources", "last_publish_time_us")
    kept = {name: getattr(report, name) for name in names}
    return Tally(published=report.published + report.already_published, **kept)


def _precise(time: str | None) -> str | None:
    return None if time is None else _iso(datetime.fromisoformat(time))


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
