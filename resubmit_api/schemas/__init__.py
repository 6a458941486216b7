"""Models of requests and responses; the OpenAPI document is made from them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    model_validator,
)

from resubmit_api.cursors import asked_at
from resubmit_api.schemas.job_list import JobsQuery
from resubmit_api.schemas.jobs import (
    MAX_PAGE,
    CreationHeaders,
    Job,
    JobChange,
    JobPage,
    Plan,
    Rate,
    ReplayRequest,
    ResubmitRequest,
    State,
    Strict,
)
from transforms.selection import Selection, absolute

__all__ = [
    "MAX_PAGE",
    "Bytes",
    "CreationHeaders",
    "Entry",
    "EntryPage",
    "Health",
    "Job",
    "JobChange",
    "JobPage",
    "JobsQuery",
    "Message",
    "NoBody",
    "NoQuery",
    "Plan",
    "Problem",
    "Rate",
    "ReplayRequest",
    "ResubmitRequest",
    "SearchRequest",
    "State",
]


def _search_only(selection: Selection) -> Selection:
    if selection.limit is not None or selection.sample is not None:
        raise ValueError("limit and sample belong to a resubmission; a search takes the page's own limit")
    return selection


class NoQuery(Strict):
    """No query parameters; unknown ones are refused, not ignored."""


class NoBody(Strict):
    """An empty object."""


class SearchRequest(Strict):
    """Which messages to list; times may be relative, such as `-1h`, and are those of the first page."""

    _asked: datetime = PrivateAttr()
    selection: Annotated[Selection, AfterValidator(_search_only)]
    limit: int = Field(default=100, ge=1, le=MAX_PAGE, strict=True, description="Entries per page.")
    cursor: str | None = Field(default=None, max_length=8192, description="`next` of the previous page.")

    @property
    def asked(self) -> datetime:
        """When the first page was asked for."""
        return self._asked

    @model_validator(mode="wrap")
    @classmethod
    def _resolve(cls, value: Any, handler: ModelWrapValidatorHandler[SearchRequest]) -> SearchRequest:
        given = value if isinstance(value, dict) else {}
        asked = asked_at(given.get("cursor")) or datetime.now(timezone.utc)
        times = {"selection": absolute(given["selection"], asked)} if "selection" in given else {}
        request = handler({**given, **times} if times else value)
        request._asked = asked  # noqa: SLF001 - its own
        return request


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] = Field(
        default=[], description="The individual causes, if there are several."
    )


class Base64(BaseModel):
    """Bytes that are not valid UTF-8."""

    base64: str


Bytes = str | Base64 | None


class Entry(BaseModel):
    """One indexed message, without its payload."""

    id: str
    source: str
    topic: str
    partition: int | None
    offset: int | None
    publish_time: str | None = Field(description="ISO 8601 in UTC, with microseconds.")
    ingestion_time: str
    key: Bytes = Field(
        description="Text if it is UTF-8; null means no key, or in a search a key of more than 64 KiB."
    )
    attributes: dict[str, str] = Field(
        description="The headers that are valid UTF-8; the last value of each name."
    )
    size: int = Field(description="Bytes of key, data and headers.")
    traits: list[str] = Field(description="The features that a destination must support.")
    checksum: str | None = Field(description="16 hexadecimal digits; null for files of other products.")
    location: str
    position: int = Field(description="Row in the file, from 0.")


class EntryPage(BaseModel):
    """Entries by publish time and id."""

    messages: list[Entry]
    next: str | None = Field(description="Cursor of the next page; null on the last one.")


class Header(BaseModel):
    """One header, as delivered by the broker."""

    name: str
    value: Bytes


class Message(Entry):
    """A message, read from the lake and verified; its payload has its own address."""

    headers: list[Header]
    payload_size: int | None = Field(description="Bytes; null for a message without payload (a tombstone).")
    payload: str = Field(description="Address of the payload.")
    verified_by: Literal["checksum", "id"]


class Health(BaseModel):
    """Whether the service and the servers it needs answer."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = {}
