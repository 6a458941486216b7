"""Models of requests and responses about the audit trail."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from resubmit_api.schemas import MAX_PAGE

__all__ = ["AuditPage", "AuditQuery", "AuditRecord"]


class AuditQuery(BaseModel):
    """Which page of the audit trail to list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=100, ge=1, le=MAX_PAGE, description="Records per page.")
    cursor: str | None = Field(default=None, max_length=200, description="`next` of the previous page.")
    job: str | None = Field(
        default=None, max_length=100, description="Only records of the resubmission with this id."
    )


class AuditRecord(BaseModel):
    """Who did what, or was refused."""

    model_config = ConfigDict(extra="allow")

    id: str
    time: str
    who: str | None = Field(description="Name of the token; null if it was not valid.")
    action: str = Field(
        description="`login`, `logout`, `refused` (no valid token), `denied`, or the action on a job."
    )
    address: str | None = Field(
        default=None, description="Address that a login or refused request came from."
    )
    request: str | None = Field(default=None, description="Method and path of a refused request.")
    detail: str | None = Field(default=None, description="Why it was refused.")
    job: str | None = Field(default=None, description="Id of the resubmission.")
    sources: list[str] | None = Field(default=None, description="The sources it sends.")
    destination: str | None = Field(default=None, description="The destination it sends to.")
    topic: str | None = None
    messages: int | None = Field(default=None, description="Number of messages, once planned.")


class AuditPage(BaseModel):
    """Records of the audit trail, latest first."""

    records: list[AuditRecord]
    next: str | None = Field(description="Cursor of the next page; null on the last one.")
