"""What requests and answers about the audit trail look like."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from resubmit_api.schemas import MAX_PAGE

__all__ = ["AuditPage", "AuditQuery", "AuditRecord"]


class AuditQuery(BaseModel):
    """Which page of the audit trail to list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=100, ge=1, le=MAX_PAGE, description="Records on a page.")
    cursor: str | None = Field(default=None, max_length=200, description="`next` of the page before.")
    job: str | None = Field(
        default=None, max_length=100, description="Only what concerns the resubmission of this id."
    )


class AuditRecord(BaseModel):
    """Who did what, or was not let do it."""

    model_config = ConfigDict(extra="allow")

    id: str
    time: str
    who: str | None = Field(description="Name of the token; null where none was valid.")
    action: str = Field(
        description="`login`, `logout`, `refused` (no valid token), `denied`, or what was asked of a job."
    )
    address: str | None = Field(default=None, description="Where a login or a refused request came from.")
    request: str | None = Field(default=None, description="Method and path of a refused request.")
    detail: str | None = Field(default=None, description="Why it was refused.")
    job: str | None = Field(default=None, description="Id of the resubmission.")
    sources: list[str] | None = Field(default=None, description="What it sends.")
    destination: str | None = Field(default=None, description="Where it sends.")
    topic: str | None = None
    messages: int | None = Field(default=None, description="How many, once it is planned.")


class AuditPage(BaseModel):
    """Records of the audit trail, the latest first."""

    records: list[AuditRecord]
    next: str | None = Field(description="Cursor of the next page; null behind the last one.")
