"""What requests about resubmissions look like, and what is told of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from transforms.selection import Selection, absolute

__all__ = [
    "MAX_PAGE",
    "CreationHeaders",
    "Job",
    "JobPage",
    "JobsQuery",
    "Options",
    "Plan",
    "Rate",
    "RateChange",
    "ReplayRequest",
    "ResubmitRequest",
    "State",
    "Strict",
]

State = Literal["PLANNED", "RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED"]
Action = Literal["run", "pause", "resume", "cancel", "retry", "rate"]

MAX_PAGE = 1000
_FIELD = r"\{(topic|source|origin)\}"
_TOPIC = rf"^(_?[A-Za-z0-9]|{_FIELD})([A-Za-z0-9._~+-]|{_FIELD}){{0,247}}$"
_RelativeSelection = Annotated[Selection, BeforeValidator(absolute)]


class Strict(BaseModel):
    """A part of a request: what is not known is refused instead of ignored."""

    model_config = ConfigDict(extra="forbid")


class Rate(Strict):
    """How fast a resubmission may go, at most; null is as fast as it can."""

    messages_per_second: float | None = Field(default=None, ge=0.001, le=1e9, strict=True)
    bytes_per_second: float | None = Field(
        default=None, ge=1, le=1e12, strict=True, description="Bytes of keys, payloads and headers."
    )


class RateChange(Strict):
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


class Options(Strict):
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
    restore: bool = Field(
        default=False,
        strict=True,
        description="Send dead letters as they were, without what was added to them.",
    )
    source_prefix: str = Field(
        default="", max_length=100, description="What `{origin}` leaves out of a source's name."
    )
    lossy: bool = Field(
        default=False,
        strict=True,
        description="Send although the destination cannot carry all of every message.",
    )


class ReplayRequest(Strict):
    """What to send again, and where to."""

    destination: str = Field(
        min_length=1, max_length=100, description="Name of a configured destination.", examples=["main"]
    )
    topic: str = Field(
        pattern=_TOPIC,
        description="An existing topic; it is never created. `{topic}` and `{source}` stand for those of "
        "each message, `{origin}` for where a dead letter came from.",
        examples=["orders-replay", "{topic}-replay"],
    )
    selection: _RelativeSelection
    options: Options = Field(default_factory=Options)


class ResubmitRequest(Strict):
    """What to send again and where to, or the plan that says so."""

    plan: str | None = Field(
        default=None, max_length=100, description="Id of a plan; then only `rate` may stand beside it."
    )
    destination: str | None = Field(default=None, min_length=1, max_length=100, examples=["main"])
    topic: str | None = Field(default=None, pattern=_TOPIC, examples=["orders-replay", "{topic}-replay"])
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


class JobsQuery(Strict):
    """Which page of the resubmissions to list."""

    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="Resubmissions on a page.")
    cursor: str | None = Field(default=None, max_length=200, description="`next` of the page before.")
    state: State | None = Field(
        default=None, description="Only those in this state; without it all but plans (`PLANNED`)."
    )


class PlannedSource(BaseModel):
    """What a plan holds of one source."""

    source: str
    messages: int
    bytes: int
    oldest: str | None
    newest: str | None


class Histogram(BaseModel):
    """Messages by publish time, in at most 100 buckets of a round width."""

    start: str
    width_seconds: float
    messages: list[int]


class Sample(BaseModel):
    """One message of a plan."""

    id: str
    source: str
    publish_time: str | None
    size: int
    key: str | dict[str, str] | None


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
    exactly_once: bool = False
    topics: list[str] = Field(default=[], description="The topics that a pattern gives.")
    keyed: list[str] = Field(default=[], description="Those of them where the key chooses the partition.")
    histogram: Histogram | None = Field(default=None, description="Messages over publish time.")
    samples: list[Sample] = Field(default=[], description="Ten messages, spread over the selection.")
    estimated_seconds: float | None = Field(
        default=None, description="How long publishing takes, at the rate asked for."
    )


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
