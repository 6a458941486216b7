"""What requests and answers look like; the OpenAPI document is made from these models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from transforms.selection import Selection, absolute

__all__ = [
    "Bytes",
    "CreationHeaders",
    "Entry",
    "EntryPage",
    "Health",
    "Job",
    "JobPage",
    "JobsQuery",
    "Message",
    "NoBody",
    "NoQuery",
    "Plan",
    "Problem",
    "Rate",
    "RateChange",
    "ReplayRequest",
    "ResubmitRequest",
    "SearchRequest",
    "State",
]

State = Literal["PLANNED", "RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED"]
Action = Literal["run", "pause", "resume", "cancel", "retry", "rate"]

MAX_PAGE = 1000
TOPIC = r"^(_?[A-Za-z0-9]|\{topic\})([A-Za-z0-9._~+-]|\{topic\}){0,247}$"


def _search_only(selection: Selection) -> Selection:
    if selection.limit is not None or selection.sample is not None:
        raise ValueError("limit and sample belong to a resubmission; a search takes the page's own limit")
    return selection


_RelativeSelection = Annotated[Selection, BeforeValidator(absolute)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NoQuery(_Request):
    """No query parameters: what is not known is refused instead of ignored."""


class NoBody(_Request):
    """An empty object: the address says it all."""


class Rate(_Request):
    """How fast a resubmission may go, at most; null is as fast as it can."""

    messages_per_second: float | None = Field(default=None, gt=0, le=1e9)
    bytes_per_second: float | None = Field(
        default=None, gt=0, le=1e12, description="Bytes of keys, payloads and headers."
    )


class RateChange(_Request):
    """A new rate; it holds from the next second on."""

    rate: Rate


class CreationHeaders(BaseModel):
    """What makes a request that is sent twice create one resubmission."""

    model_config = ConfigDict(populate_by_name=True)

    idempotency_key: str | None = Field(
        default=None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Text not used before; used again, it gives what the first request made.",
    )


class Options(_Request):
    """How messages are sent again; unchanged is the default."""

    timestamp: Literal["original", "now"] = Field(
        default="original", description="`original` keeps each message's publish time."
    )
    partitions: Literal["original", "key"] | None = Field(
        default=None, description="By default the original partition where both topics have the same number."
    )
    order: Literal["partition", "key", "none"] = Field(
        default="partition",
        description="What is kept in its original order: each source partition, each key, or nothing.",
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
        pattern=TOPIC,
        description="An existing topic; it is never created. `{topic}` stands for each message's own topic.",
        examples=["orders-replay", "{topic}-replay"],
    )
    selection: _RelativeSelection
    options: Options = Field(default_factory=Options)


class ResubmitRequest(_Request):
    """What to send again and where to, or the plan that says so."""

    plan: str | None = Field(
        default=None, max_length=100, description="Id of a plan; then only `rate` may stand beside it."
    )
    destination: str | None = Field(default=None, min_length=1, max_length=100, examples=["main"])
    topic: str | None = Field(default=None, pattern=TOPIC, examples=["orders-replay", "{topic}-replay"])
    selection: _RelativeSelection | None = None
    options: Options | None = None
    rate: Rate = Field(default_factory=Rate)

    @model_validator(mode="after")
    def _check_whole(self) -> ResubmitRequest:
        parts = [self.destination, self.topic, self.selection]
        if self.plan is not None and any(part is not None for part in [*parts, self.options]):
            raise ValueError("a plan has its own destination, topic, selection and options; leave them out")
        if self.plan is None and any(part is None for part in parts):
            raise ValueError("name destination, topic and selection, or a plan")
        return self

    def replay(self) -> ReplayRequest:
        """The request as one to plan."""
        return ReplayRequest.model_construct(
            destination=self.destination,
            topic=self.topic,
            selection=self.selection,
            options=self.options or Options(),
        )


class SearchRequest(_Request):
    """Which messages to list."""

    selection: Annotated[Selection, AfterValidator(_search_only)]
    limit: int = Field(default=100, ge=1, le=MAX_PAGE, strict=True, description="Entries on a page.")
    cursor: str | None = Field(default=None, max_length=8192, description="`next` of the page before.")


class JobsQuery(_Request):
    """Which page of the resubmissions to list."""

    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="Resubmissions on a page.")
    cursor: str | None = Field(default=None, max_length=200, description="`next` of the page before.")
    state: State | None = Field(
        default=None, description="Only those in this state; without it all but plans (`PLANNED`)."
    )


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


class SourceProgress(BaseModel):
    """Messages of one source so far."""

    planned: int = 0
    published: int = 0
    failed: int = 0


class Progress(SourceProgress):
    """Messages so far."""

    rate: float | None = Field(default=None, description="Messages per second, of late.")
    seconds_left: float | None = Field(default=None, description="Estimated from the rate.")
    last_publish_time: str | None = Field(
        default=None, description="Original publish time of the latest message that was sent again."
    )
    sources: dict[str, SourceProgress] = {}


class Failure(BaseModel):
    """A message that was not published."""

    id: str
    location: str
    category: str
    reason: str


class Job(BaseModel):
    """A resubmission."""

    id: str
    state: State
    possible: list[Action] = Field(default=[], description="What may be asked of it in this state.")
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
    plan: Plan | None = Field(default=None, description="Its figures; null while it is being planned.")
    rate: Rate = Field(default_factory=Rate)
    progress: Progress
    errors: list[Failure] = Field(default=[], description="The first 100 messages that were not published.")
    report: dict[str, Any] | None = Field(default=None, description="The whole account, once it ended.")
    attempts: int = Field(
        default=0, description="Times that its process was lost since it last made progress."
    )
    retry_of: str | None = Field(default=None, description="The resubmission whose failed messages it sends.")
    retried_by: str | None = Field(default=None, description="The resubmission that sends what failed.")


class JobPage(BaseModel):
    """Resubmissions, the latest first."""

    resubmissions: list[Job]
    next: str | None = Field(description="Cursor of the next page; null behind the last one.")


class Health(BaseModel):
    """Whether the service, or what it needs, answers."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = {}
