"""Index stores, one module each, found by URL scheme (``sqlite:///path``, ``mongodb://host/db``).

A store's module offers what :class:`IndexModule` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa

from transforms.errors import PermanentError
from transforms.job_row import Row
from transforms.selection import Selection

__all__ = ["ConflictError", "Index", "IndexModule", "SourceSummary"]


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
    """Where the entries (``ENTRY_SCHEMA``) and the jobs are kept. Thread-safe.

    Every method raises ``TransientError`` while the store is away.
    """

    def insert(self, entries: pa.Table) -> int:
        """Store entries durably; ids that are there already stay as they are.

        Returns:
            How many were new.

        Raises:
            ConflictError: an id is there with another checksum (null checksums do not
                conflict). Every other entry of the table is stored all the same.
        """

    def forget(self, locations: Sequence[str]) -> int:
        """Remove every entry of these files durably; jobs are left alone.

        Returns:
            How many entries there were.
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

    def files(self) -> dict[str, int]:
        """How many files hold the messages of each source; may read the whole index."""

    def histogram(self, selection: Selection, start: int, width: int) -> dict[int, int]:
        """Count what matches by publish time, without ``limit`` and ``sample``.

        Args:
            selection: what to count.
            start: where bucket 0 begins, in µs since 1970; messages before it are left out.
            width: of a bucket, in µs.

        Returns:
            Messages by the number of their bucket, for buckets that have any.
        """

    def create_job(self, row: Row, record: Mapping[str, Any]) -> Row:
        """Store a new job and the record of the audit trail that says who asked for it.

        Both are durable then, or neither is.

        Args:
            row: the job, JSON types only.
            record: as for :meth:`append_audit`; its ``id`` is the job's.

        Returns:
            ``row``, or the job that is there already: of the same ``id``, or of the same
            ``requested_by`` with the same ``idempotency_key`` (where that is not None). Then
            ``record`` is not stored.
        """

    def replace_job(self, row: Row, version: int, record: Mapping[str, Any] | None = None) -> bool:
        """Store a job durably as ``version + 1`` if what is stored has that version.

        Args:
            row: the job, JSON types only.
            version: of what is stored.
            record: as for :meth:`append_audit`; stored in the same write, so that there is neither a
                change without its record nor a record of what did not happen.

        Returns:
            Whether it was stored; if not, another one was quicker, or there is no such job.
        """

    def get_job(self, id: str) -> Row | None:
        """A job by its id."""

    def list_jobs(
        self, limit: int, before: str | None = None, states: Sequence[str] | None = None
    ) -> list[Row]:
        """Jobs by id, last first (ids begin with their time).

        Args:
            limit: at most so many.
            before: those below this id only.
            states: those whose ``state`` is one of these only.
        """

    def append_audit(self, record: Mapping[str, Any]) -> None:
        """Store a record of the audit trail durably; nothing changes or deletes one.

        Args:
            record: JSON types; its ``id`` is new, and begins with its time.
        """

    def list_audit(self, limit: int, before: str | None = None) -> list[dict[str, Any]]:
        """Records of the audit trail by id, last first, those below ``before`` only."""

    def ping(self) -> None:
        """Return when the store answers."""

    def close(self) -> None:
        """Give back connections; the index is not used afterwards."""


class IndexModule(Protocol):
    """What a module of this package offers."""

    @property
    def ONE_HOST(self) -> bool:  # noqa: N802 - a constant of the module
        """Whether the index is a file of one host, which the URL's path names; else a server holds it."""

    def open(self, url: str) -> Index:
        """Open an index; what is missing of it (tables, indexes) is created.

        Args:
            url: may hold references to secrets.

        Raises:
            ConfigurationError: the URL cannot be right, or the store refuses us.
            TransientError: the store is away.
        """
