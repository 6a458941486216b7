"""What requests and answers look like; the OpenAPI document is made from these models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from transforms.selection import Selection

__all__ = [
    "Bytes",
    "Entry",
    "EntryPage",
    "Health",
    "Job",
    "JobPage",
    "JobsQuery",
    "Message",
    "NoQuery",
    "Plan",
    "Problem",
    "ReplayRequest",
    "SearchRequest",
]

MAX_PAGE = 1000


def _search_only(selection: Selection) -> Selection:
    if selection.limit is not None or selection.sample is not None:
        raise ValueError("limit and sample belong to a resubmission; a search takes the page's own limit")
    return selection


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NoQuery(_Request):
    """No query parameters: what is not known is refused instead of ignored."""


class Options(_Request):
    """How messages are sent again; unchanged is the default."""

    timestamp: Literal["original", "now"] = Field(
        default="original", description="`original` keeps each message's publish time."
    )
    partitions: Literal["original", "key"] | None = Field(
        default=None, description="By default the original partition where both topics have the same number."
    )
    lossy: bool = Field(
        default=False,
        strict=True,
        description="Send although the destination cannot carry all of every message.",
    )


class ReplayRequest(_Request):
    """What to send again, and where to."""

    destination: str = Field(
        min_length=1, max_length=100, description="Name of a configured destination.", examples=["main"]
    )
    topic: str = Field(
        pattern=r"^_?[A-Za-z0-9][A-Za-z0-9._~+-]{0,247}$",
        description="An existing topic; it is never created.",
        examples=["orders-replay"],
    )
    selection: Selection
    options: Options = Field(default_factory=Options)


class SearchRequest(_Request):
    """Which messages to list."""

    selection: Annotated[Selection, AfterValidator(_search_only)]
    limit: int = Field(default=100, ge=1, le=MAX_PAGE, strict=True, description="Entries on a page.")
    cursor: str | None = Field(default=None, max_length=8192, description="`next` of the page before.")


class JobsQuery(_Request):
    """Which page of the resubmissions to list."""

    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="Resubmissions on a page.")
    cursor: str | None = Field(default=None, max_length=200, description="`next` of the page before.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] = Field(
        default=[], description="The single causes, where there are several."
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
    key: Bytes = Field(description="As text where it is UTF-8; null is no key.")
    attributes: dict[str, str] = Field(
        description="The headers that are valid UTF-8, the last one of a name."
    )
    size: int = Field(description="Bytes of key, data and headers.")
    traits: list[str] = Field(description="What a destination must be able to carry.")
    checksum: str | None = Field(description="16 hexadecimal digits; null for files of other products.")
    location: str
    position: int = Field(description="Row in the file, from 0.")


class EntryPage(BaseModel):
    """Entries by publish time and id."""

    messages: list[Entry]
    next: str | None = Field(description="Cursor of the next page; null behind the last one.")


class Header(BaseModel):
    """One header, as the broker gave it."""

    name: str
    value: Bytes


class Message(Entry):
    """A message, read from the lake and verified; its payload has an address of its own."""

    headers: list[Header]
    payload_size: int | None = Field(description="Bytes; null is a message without payload (a tombstone).")
    payload: str = Field(description="Address of the payload.")
    verified_by: Literal["checksum", "id"]


class PlannedSource(BaseModel):
    """What a plan holds of one source."""

    source: str
    messages: int
    bytes: int
    oldest: str | None
    newest: str | None


class Plan(BaseModel):
    """What a resubmission would do. It may run where `problems` is empty."""

    destination: str
    topic: str
    selection: dict[str, Any]
    options: dict[str, Any]
    messages: int
    bytes: int
    files: int
    requests: int
    largest: int
    oldest: str | None
    newest: str | None
    sources: list[PlannedSource]
    cannot_carry: dict[str, int]
    problems: list[str]
    warnings: list[str]
    deduplication: str


class Progress(BaseModel):
    """Messages so far."""

    planned: int = 0
    published: int = 0
    failed: int = 0


class Failure(BaseModel):
    """A message that was not published."""

    id: str
    location: str
    category: str
    reason: str


class Job(BaseModel):
    """A resubmission."""

    id: str
    state: Literal["PLANNED", "RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED"]
    reason: str | None = None
    mode: Literal["inline", "job"]
    requested_by: str | None = None
    created: str
    started: str | None = None
    finished: str | None = None
    destination: str
    topic: str
    selection: dict[str, Any]
    options: dict[str, Any]
    plan: Plan | None = None
    progress: Progress
    errors: list[Failure] = Field(default=[], description="The first 100 messages that were not published.")
    report: dict[str, Any] | None = Field(default=None, description="The whole account, once it ended.")


class JobPage(BaseModel):
    """Resubmissions, the latest first."""

    resubmissions: list[Job]
    next: str | None = Field(description="Cursor of the next page; null behind the last one.")


class Health(BaseModel):
    """Whether the service, or what it needs, answers."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = {}
