"""Index stores, one module each, found by URL scheme (``sqlite:///path``, ``mongodb://host/db``).

A store's module offers ``open(url: str) -> Index`` and ``LOCAL: bool`` (True where only one
host can use it). The URL may hold secret references. Opening creates what is missing
(tables, indexes) and raises ``ConfigurationError`` for a URL that cannot be right.
Every method raises ``TransientError`` while the store is away. An index is thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa

from transforms.errors import PermanentError
from transforms.selection import Selection

__all__ = ["ConflictError", "Index", "SourceSummary"]


class ConflictError(PermanentError):
    """Ids are in the index already, for other messages: their checksums differ."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids
        super().__init__(f"{len(ids)} ids are indexed for other messages already, such as {ids[0]}")


@dataclass(frozen=True)
class SourceSummary:
    """What a selection holds of one source."""

    source: str
    messages: int
    bytes: int
    oldest: datetime | None
    newest: datetime | None
    traits: dict[int, int] = field(default_factory=dict)
    """Messages by the value of their ``traits`` column."""


class Index(Protocol):
    """Where the entries (``ENTRY_SCHEMA``) and the jobs are kept."""

    def insert(self, entries: pa.Table) -> int:
        """Store entries durably; ids that are there already stay as they are.

        Returns:
            How many were new.

        Raises:
            ConflictError: an id is there with another checksum (null checksums do not
                conflict). Every other entry of the table is stored all the same.
        """

    def summarize(self, selection: Selection) -> list[SourceSummary]:
        """Count what matches, without ``limit`` and ``sample``, ordered by source."""

    def select(self, selection: Selection, columns: list[str]) -> Iterator[pa.Table]:
        """Stream what matches, without ``limit`` and ``sample``, in bounded memory.

        Ordered by source, incarnation, partition, offset and id, the replay order; null comes first.
        """

    def search(
        self, selection: Selection, limit: int, after: tuple[int | None, str] | None = None
    ) -> pa.Table:
        """One page of what matches, ordered by (publish time, id), behind ``after``.

        ``after`` is (publish time in µs since 1970, id) of the last row of the page before; its time
        is None where the row has none, and such rows come first.
        The order is unique and steady, so that paging meets each message once while others are added.
        """

    def get(self, id: str) -> pa.Table:
        """The entry of one message: one row, or none."""

    def sources(self) -> list[str]:
        """Names of all indexed sources, sorted."""

    def put_job(self, job: dict[str, Any]) -> None:
        """Store a job durably under ``job["id"]``, replacing what was there (JSON types only)."""

    def get_job(self, id: str) -> dict[str, Any] | None:
        """A job by its id."""

    def list_jobs(self, limit: int, before: str | None = None) -> list[dict[str, Any]]:
        """Jobs by id, last first (ids begin with their time), those below ``before`` only."""

    def ping(self) -> None:
        """Return when the store answers."""

    def close(self) -> None:
        """Give back connections; the index is not used afterwards."""
