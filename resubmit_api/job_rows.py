"""A resubmission as the index store keeps it: plain JSON, changed only here."""

from __future__ import annotations

import functools
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import psutil

from resubmit_api.errors import in_words_of_requests
from resubmit_api.rows import iso
from resubmit_api.schemas import ReplayRequest
from transforms.replay.outcome import Tally
from transforms.replay.plans import Options, Plan, new_job_id
from transforms.selection import Selection

__all__ = [
    "ended",
    "failed",
    "new_row",
    "options_of",
    "plan_to_json",
    "planned",
    "progressed",
    "running",
    "selection_of",
    "this_service",
]

UNFINISHED = frozenset({"PLANNED", "RUNNING"})


def new_row(request: ReplayRequest, mode: str, requested_by: str | None) -> dict[str, Any]:
    """A resubmission that was just asked for; ``mode`` is ``inline`` or ``job``."""
    return {
        "id": new_job_id(),
        "state": "PLANNED",
        "reason": None,
        "mode": mode,
        "requested_by": requested_by,
        "created": _now(),
        "started": None,
        "finished": None,
        "destination": request.destination,
        "topic": request.topic,
        "selection": json.loads(request.selection.to_json()),
        "options": request.options.model_dump(exclude={"order"}),
        "plan": None,
        "progress": {"planned": 0, "published": 0, "failed": 0},
        "errors": [],
        "report": None,
        "service": this_service(),
        "run": None,
    }


def planned(row: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """The row with the plan's figures."""
    progress = {**row["progress"], "planned": plan.messages}
    return {**row, "plan": plan_to_json(plan, row["destination"]), "progress": progress}


def plan_to_json(plan: Plan, destination: str) -> dict[str, Any]:
    """A plan as :class:`resubmit_api.schemas.Plan` has it: the destination by its name."""
    report = plan.report()
    for part in (report, *report["sources"]):
        part |= {name: _precise(part[name]) for name in ("oldest", "newest")}
    told = {name: [in_words_of_requests(text) for text in report[name]] for name in ("problems", "warnings")}
    return report | told | {"destination": destination}


def running(row: Mapping[str, Any], run: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The row of a job that has begun to send; ``run`` finds its process again."""
    return {**row, "state": "RUNNING", "started": row["started"] or _now(), "run": run}


def progressed(row: Mapping[str, Any], tally: Tally) -> dict[str, Any]:
    """The row with what is confirmed so far."""
    counts = {"published": tally.published, "failed": sum(tally.failed.values())}
    errors = [asdict(error) for error in tally.errors]
    return {**row, "progress": {**row["progress"], **counts}, "errors": errors}


def ended(row: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the job's account (``Report.to_dict``): completed where every message was published."""
    counts = {
        "planned": report["planned"],
        "published": report["published"] + report["already_published"],
        "failed": sum(report["failed"].values()),
    }
    complete = counts["published"] == counts["planned"]
    missing = f"{counts['planned'] - counts['published']} of {counts['planned']} messages were not published."
    return {
        **row,
        "state": "COMPLETED" if complete else "FAILED",
        "reason": None if complete else missing,
        "finished": _now(),
        "progress": counts,
        "errors": report["errors"],
        "report": {name: value for name, value in report.items() if name != "errors"},
    }


def failed(row: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """The row of a job that could not go on."""
    return {**row, "state": "FAILED", "reason": reason, "finished": _now()}


def selection_of(row: Mapping[str, Any]) -> Selection:
    """What the row's job sends."""
    return Selection.model_validate(row["selection"])


def options_of(row: Mapping[str, Any]) -> Options:
    """How the row's job sends."""
    return Options(**row["options"])


@functools.cache
def this_service() -> dict[str, Any]:
    """Which process answers for a row."""
    started = psutil.Process().create_time()
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": started}


def _precise(time: str | None) -> str | None:
    return None if time is None else iso(datetime.fromisoformat(time))


def _now() -> str:
    return iso(datetime.now(timezone.utc)) or ""
