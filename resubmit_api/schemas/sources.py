"""Models of responses about sources and dead letters."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

__all__ = ["DeadLetters", "SourceList"]


class Source(BaseModel):
    """One source of messages."""

    source: str
    messages: int
    bytes: int
    exact: bool = Field(description="Whether messages and bytes are exact; else they are about right.")
    files: int | None = Field(description="null while they are being counted, or if that takes too long.")
    oldest: str | None = Field(description="Publish time of the oldest message.")
    newest: str | None = Field(description="Publish time of the newest message.")
    rate: float = Field(description="Messages per second, by publish time, in the last five minutes.")
    dead_letters: int = Field(description="Dead letters from this source.")
    lag: float | None = Field(
        description="Messages at the broker that are not read yet, from persist's metrics; null if unknown."
    )
    waiting_seconds: float | None = Field(
        description="Age of the oldest message that was read but is not durable yet; null if unknown."
    )


class SourceList(BaseModel):
    """Every source the caller may read, sorted by name."""

    sources: list[Source]
    silent: list[str] = Field(
        description="Metrics addresses of persist that do not answer; hidden from viewers."
    )


class Kind(BaseModel):
    """Dead letters of one kind."""

    held_in: str = Field(description="The source that holds them.")
    category: str
    source: str | None = Field(description="Their original source; null if their headers do not name it.")
    stage: str | None = Field(description="The stage at which they failed.")
    messages: int
    bytes: int
    oldest: str | None
    newest: str | None
    reason: str | None = Field(description="An example.")
    selection: dict[str, Any] = Field(
        description="A selection of exactly these, for a search or a resubmission."
    )


class DeadLetters(BaseModel):
    """Dead letters by kind, most frequent first."""

    kinds: list[Kind]
    messages: int
    complete: bool = Field(description="False if not all were counted.")
