"""The model of a request for a list of resubmissions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from resubmit_api.schemas.jobs import MAX_PAGE, State, Strict
from transforms.jobs.listing import JobFilter
from transforms.jobs.states import LISTED
from transforms.settings.kinds import past

__all__ = ["JobsQuery"]

_Past = Annotated[
    datetime,
    BeforeValidator(lambda text: past(text.removeprefix("-"))),
    WithJsonSchema({"type": "string", "examples": ["-7d", "2026-11-01", "2026-11-01T08:00:00Z"]}),
]


class JobsQuery(Strict):
    """Which page of the resubmissions to list."""

    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="Resubmissions per page.")
    cursor: str | None = Field(default=None, max_length=200, description="`next` of the previous page.")
    state: State | None = Field(
        default=None, description="Only resubmissions in this state; default: all except plans (`PLANNED`)."
    )
    requested_by: str | None = Field(default=None, max_length=200, description="Only of this person.")
    destination: str | None = Field(default=None, max_length=500, description="Only to this destination.")
    created_from: _Past | None = Field(
        default=None, description="Only those requested from this time on: a date, a time, or -7d."
    )
    created_to: _Past | None = Field(default=None, description="Only those requested before this time.")

    def filter(self) -> JobFilter:
        """Which resubmissions are meant."""
        given = self.model_dump(exclude={"limit", "cursor", "state"})
        return JobFilter(states=LISTED if self.state is None else (self.state,), **given)
