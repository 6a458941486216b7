"""Models of requests and responses about resubmissions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_after_validator_function

from resubmit_api.errors import in_words_of_requests
from transforms import replay
from transforms.selection import Selection, absolute
from transforms.settings import Setting, settings_in
from transforms.settings.kinds import FLAG, TEXT

__all__ = [
    "MAX_PAGE",
    "CreationHeaders",
    "Job",
    "JobChange",
    "JobPage",
    "Options",
    "Plan",
    "Rate",
    "ReplayRequest",
    "ResubmitRequest",
    "State",
    "Strict",
]

State = Literal["PLANNED", "QUEUED", "RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED"]
Action = Literal["approve", "run", "pause", "resume", "cancel", "retry", "rate"]

MAX_PAGE = 1000
_MOST_TEXT = 100
_FIELD = r"\{(topic|source|origin)\}"
_TOPIC = rf"^(_?[A-Za-z0-9]|{_FIELD})([A-Za-z0-9._~+-]|{_FIELD}){{0,247}}$"
_Worded = Annotated[str, AfterValidator(in_words_of_requests)]
_Note = Annotated[str, Field(max_length=500)]
_NOTE: Any = Field(
    default=None, description="Why, such as a ticket; shown with the resubmission and its records."
)
_RelativeSelection = Annotated[Selection, BeforeValidator(absolute)]


class Strict(BaseModel):
    """A part of a request; unknown fields are refused, not ignored."""

    model_config = ConfigDict(extra="forbid")


class Rate(Strict):
    """The maximum rate of a resubmission; null means no limit."""

    messages_per_second: float | None = Field(default=None, ge=0.001, le=1e9, strict=True)
    bytes_per_second: float | None = Field(
        default=None, ge=1, le=1e12, strict=True, description="Bytes of keys, payloads and headers."
    )


class JobChange(Strict):
    """A new rate limit, which applies within about a second, or a new note."""

    rate: Rate | None = None
    note: _Note | None = Field(default=None, description="An empty text removes the note.")

    @model_validator(mode="after")
    def _check_whole(self) -> JobChange:
        if (self.rate is None) == (self.note is None):
            raise ValueError("give rate or note")
        return self


class CreationHeaders(BaseModel):
    """Headers that make a repeated request create only one resubmission."""

    model_config = ConfigDict(populate_by_name=True)

    idempotency_key: str | None = Field(
        default=None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="A new text. A request with the same text returns the first one's resubmission.",
    )


def _field(option: Setting) -> tuple[Any, Any]:
    """An option as a field of a request."""
    said = f"{option.help[0].upper()}{option.help[1:]}."
    if option.kind is FLAG:
        return bool, Field(default=False, strict=True, description=said)
    if not option.choices:
        pattern = None if option.kind is TEXT else f"^({option.kind.pattern})$"
        return str, Field(default=option.default, max_length=_MOST_TEXT, pattern=pattern, description=said)
    kind: Any = Literal[option.choices]
    return (
        kind if option.default is not None else kind | None,
        Field(default=option.default, description=said),
    )


_FIELDS: dict[str, Any] = {option.name: _field(option) for option in settings_in(replay.Options)}
_OPTIONS = create_model(
    "Options",
    __base__=Strict,
    __doc__="How messages are sent again; by default unchanged.",
    **_FIELDS,
)


def _options(given: Strict) -> replay.Options:
    return replay.Options(**given.model_dump())


def _schema(_: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    return no_info_after_validator_function(_options, handler.generate_schema(_OPTIONS))


Options = Annotated[replay.Options, GetPydanticSchema(_schema)]
"""The options of a request: those that are declared, and no others."""


class ReplayRequest(Strict):
    """What to send again, and where."""

    destination: str = Field(
        min_length=1, max_length=100, description="Name of a configured destination.", examples=["main"]
    )
    topic: str = Field(
        pattern=_TOPIC,
        description="An existing topic; topics are never created. `{topic}` and `{source}` stand for those "
        "of each message, `{origin}` for the original topic of a dead letter.",
        examples=["orders-replay", "{topic}-replay"],
    )
    selection: _RelativeSelection
    options: Options = Field(default_factory=replay.Options)
    note: _Note | None = _NOTE


class ResubmitRequest(Strict):
    """What to send again and where, or a plan to run."""

    plan: str | None = Field(
        default=None,
        max_length=100,
        description="Id of a plan; only `rate` and `note` may be combined with it.",
    )
    destination: str | None = Field(default=None, min_length=1, max_length=100, examples=["main"])
    topic: str | None = Field(default=None, pattern=_TOPIC, examples=["orders-replay", "{topic}-replay"])
    selection: _RelativeSelection | None = None
    options: Options | None = None
    rate: Rate = Field(default_factory=Rate)
    note: _Note | None = _NOTE

    @model_validator(mode="after")
    def _check_whole(self) -> ResubmitRequest:
        parts = [self.destination, self.topic, self.selection]
        if self.plan is not None and any(part is not None for part in [*parts, self.options]):
            raise ValueError("a plan has its own destination, topic, selection and options; remove them")
        if self.plan is None and any(part is None for part in parts):
            raise ValueError("name destination, topic and selection, or a plan")
        return self

    def replay(self) -> ReplayRequest:
        """The request without its plan and rate."""
        return ReplayRequest.model_construct(
            destination=self.destination,
            topic=self.topic,
            selection=self.selection,
            options=self.options or replay.Options(),
            note=self.note,
        )


class PlannedSource(BaseModel):
    """The messages of one source in a plan."""

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
    """What a resubmission would do. It can run if `problems` is empty."""

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
    problems: list[_Worded]
    warnings: list[_Worded]
    deduplication: str
    exactly_once: bool = False
    topics: list[str] = Field(default=[], description="The topics that a pattern expands to.")
    keyed: list[str] = Field(default=[], description="Topics in which the key chooses the partition.")
    histogram: Histogram | None = Field(default=None, description="Messages by publish time.")
    samples: list[Sample] = Field(default=[], description="Ten messages, spread over the selection.")
    estimated_seconds: float | None = Field(
        default=None, description="Estimated publishing time at the requested rate."
    )


class SourceProgress(BaseModel):
    """Messages of one source so far."""

    planned: int = 0
    published: int = 0
    failed: int = 0


class Progress(SourceProgress):
    """Messages so far."""

    rate: float | None = Field(default=None, description="Current messages per second.")
    seconds_left: float | None = Field(default=None, description="Estimated from the rate.")
    last_publish_time: str | None = Field(
        default=None,
        description="Original publish time up to which all lanes have sent.",
    )
    sources: dict[str, SourceProgress] = {}


class Failure(BaseModel):
    """A message that was not published."""

    id: str
    location: str
    category: str
    reason: str


class Approval(BaseModel):
    """The approval of a plan by a second person."""

    planned_by: str | None = None
    by: str | None = Field(default=None, description="Who approved it; null until somebody has.")
    at: str | None = None


class Job(BaseModel):
    """A resubmission."""

    id: str
    state: State
    possible: list[Action] = Field(default=[], description="Actions possible in this state.")
    reason: _Worded | None = None
    place: int | None = Field(
        default=None, description="Place in the queue for its destination, while it is `QUEUED`; 1 is next."
    )
    mode: Literal["inline", "job"]
    requested_by: str | None = None
    note: str | None = None
    approval: Approval | None = Field(
        default=None, description="Where the destination takes only plans that another person has approved."
    )
    created: str
    started: str | None = None
    finished: str | None = None
    destination: str
    topic: str
    selection: dict[str, Any]
    abridged: bool = Field(
        default=False,
        description="Whether this list leaves out `errors`, and `ids` and `where` of the selection, because "
        "the resubmission is long; the resubmission itself has them.",
    )
    options: dict[str, Any]
    plan: Plan | None = Field(default=None, description="Its figures; null while it is being planned.")
    rate: Rate = Field(default_factory=Rate)
    progress: Progress
    errors: list[Failure] = Field(default=[], description="The first 100 messages that were not published.")
    report: dict[str, Any] | None = Field(default=None, description="The full report, once it ended.")
    attempts: int = Field(default=0, description="How often its process was lost since the last progress.")
    retry_of: str | None = Field(
        default=None, description="The resubmission whose failed messages this one retries."
    )
    retried_by: str | None = Field(
        default=None, description="The resubmission that retries its failed messages."
    )


class JobPage(BaseModel):
    """Resubmissions, latest first."""

    resubmissions: list[Job]
    next: str | None = Field(description="Cursor of the next page; null on the last one.")
