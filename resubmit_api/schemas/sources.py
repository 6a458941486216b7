"""What is told of sources and of dead letters."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

__all__ = ["DeadLetters", "SourceList"]


class Source(BaseModel):
    """One source of messages."""

    source: str
    messages: int
    bytes: int
    files: int
    oldest: str | None = Field(description="Publish time of the oldest message.")
    newest: str | None = Field(description="Publish time of the newest message.")
    rate: float = Field(description="Messages a second, by publish time, in the last five minutes.")
    dead_letters: int = Field(description="Dead letters that came from it.")
    lag: float | None = Field(
        description="Messages at the broker that are not read yet, as the metrics of persist tell; "
        "null where they are not known."
    )
    waiting_seconds: float | None = Field(
        description="Age of the oldest message that is read and not durable yet; null likewise."
    )


class SourceList(BaseModel):
    """Every source that is open to the caller, by name."""

    sources: list[Source]
    silent: list[str] = Field(description="Addresses of metrics of persist that do not answer.")


class Kind(BaseModel):
    """Dead letters of one kind."""

    held_in: str = Field(description="The source in which they are archived.")
    category: str
    source: str | None = Field(description="Where they came from; null where their headers do not say.")
    stage: str | None = Field(description="What they failed at.")
    messages: int
    bytes: int
    oldest: str | None
    newest: str | None
    reason: str | None = Field(description="Of one of them.")
    selection: dict[str, Any] = Field(description="Selects just these, for a search or a resubmission.")


class DeadLetters(BaseModel):
    """Dead letters by kind, the most frequent first."""

    kinds: list[Kind]
    messages: int
    complete: bool = Field(description="False where there are more than were counted.")
