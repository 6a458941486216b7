"""Turns requests into job rows, and rows into answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resubmit_api.jobs.places import Queued
from resubmit_api.schemas import ReplayRequest
from transforms.job_row import Row
from transforms.jobs.rows import new_row
from transforms.jobs.states import possible, shown_state
from transforms.replay.plans import new_job_id

__all__ = ["Answer", "estimated_seconds", "job_answer", "row_from_request"]


def row_from_request(request: ReplayRequest, requested_by: str | None, /, **others: Any) -> Row:
    """The row of a new job; ``others`` as for :func:`transforms.jobs.new_row`."""
    id = new_job_id()
    # What has no key of its own is known by its id: asked for again by that, it is sent once.
    others = {
        "id": id,
        "note": request.note,
        **others,
        "idempotency_key": others.get("idempotency_key") or id,
    }
    return new_row(
        destination=request.destination,
        topic=request.topic,
        selection=request.selection,
        options=request.options,
        requested_by=requested_by,
        **others,
    )


class Answer(Row):
    """A row as it is answered with.

    Attributes:
        possible: what may be asked of the job in its state.
        place: its place among the queued jobs to its destination, if it is queued.
    """

    possible: list[str]
    place: int | None


def job_answer(row: Row, queued: Queued | None = None) -> Answer:
    """The row with the possible actions (:class:`schemas.Job`), and what it waits for in the queue."""
    state = shown_state(row)
    queued = queued if state == "QUEUED" else None
    return {
        **row,
        "state": state,
        "possible": possible(row),
        "plan": _plan(row["plan"], row["rate"]),
        "place": queued.place if queued else None,
        "reason": row["reason"] or (queued.reason if queued else None),
    }


def estimated_seconds(plan: Mapping[str, Any], rate: Mapping[str, float | None]) -> float:
    """Seconds that publishing takes at a rate; at least the plan's own estimate."""
    limits = (("messages", rate["messages_per_second"]), ("bytes", rate["bytes_per_second"]))
    found = [plan["estimated_seconds"], *(plan[what] / most for what, most in limits if most)]
    return round(float(max(found)), 3)


def _plan(plan: Mapping[str, Any] | None, rate: Mapping[str, float | None]) -> dict[str, Any] | None:
    if plan is None:
        return None
    return {**plan, "estimated_seconds": estimated_seconds(plan, rate)}
