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
    """Ids are already indexed for other messages: their checksums differ."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids
        super().__init__(f"{len(ids)} ids are already indexed for other messages, such as {ids[0]}")


@dataclass(frozen=True)
class SourceSummary:
    """The messages of one source in a selection."""

    source: str
    messages: int
    bytes: int
    oldest: datetime | None
    newest: datetime | None
    traits: dict[int, int] = field(default_factory=dict)
    """Messages by the value of their ``traits`` column."""
    exact: bool = True
    """Whether messages and bytes are exact; else they are about right."""


class Index(Protocol):
    """Stores the entries (``ENTRY_SCHEMA``), the jobs and the audit trail. Thread-safe.

    Every method raises ``TransientError`` while the store is away.
    """

    def insert(self, entries: pa.Table) -> int:
        """Store entries durably; existing ids stay unchanged.

        Returns:
            The number of new entries.

        Raises:
            ConflictError: an id exists with another checksum (null checksums do not conflict). All other
                entries of the table are stored nevertheless.
        """

    def forget(self, locations: Sequence[str]) -> int:
        """Remove every entry of these files durably; jobs stay.

        Returns:
            The number of removed entries.
        """

    def summarize(self, selection: Selection) -> list[SourceSummary]:
        """Count matching messages, without ``limit`` and ``sample``, ordered by source."""

    def count(self, selection: Selection, most: int) -> int:
        """Count matching messages up to ``most``, without ``limit`` and ``sample``."""

    def totals(self) -> list[SourceSummary]:
        """What each source holds, from counters kept at insert, ordered by source and without traits.

        The first time, and seldom afterwards, they may have to be counted, which reads the whole index.
        """

    def select(self, selection: Selection, columns: list[str]) -> Iterator[pa.Table]:
        """Stream matching entries, without ``limit`` and ``sample``, in bounded memory.

        Ordered by source, incarnation, partition, offset and id, the replay order; null comes first.
        """

    def search(
        self, selection: Selection, limit: int, after: tuple[int | None, str] | None = None
    ) -> pa.Table:
        """One page of matching entries, ordered by (publish time, id), after ``after``.

        ``after`` is (publish time in µs since 1970, id) of the last row of the previous page; its time is
        None if the row has none, and such rows come first. The order is unique and stable, so paging
        returns each message once while others are added.
        """

    def get(self, id: str) -> pa.Table:
        """The entry of one message: one row, or none."""

    def sources(self) -> list[str]:
        """Names of all indexed sources, sorted."""

    def files(self) -> dict[str, int]:
        """The number of files per source; may read the whole index."""

    def histogram(self, selection: Selection, start: int, width: int) -> dict[int, int]:
        """Count matching messages by publish time, without ``limit`` and ``sample``.

        Args:
            selection: the messages to count.
            start: start of bucket 0, in µs since 1970; earlier messages are left out.
            width: width of a bucket, in µs.

        Returns:
            Messages by bucket number, without empty buckets.
        """

    def create_job(self, row: Row, record: Mapping[str, Any]) -> Row:
        """Store a new job with its record of the audit trail.

        Either both are durable, or neither.

        Args:
            row: the job, JSON types only.
            record: as for :meth:`append_audit`; its ``id`` is the job's.

        Returns:
            ``row``, or an existing job with the same ``id``, or with the same ``requested_by`` and
            ``idempotency_key`` (if not None). Then ``record`` is not stored.
        """

    def replace_job(self, row: Row, version: int, record: Mapping[str, Any] | None = None) -> bool:
        """Store a job durably as ``version + 1`` if the stored one has ``version``.

        Args:
            row: the job, JSON types only.
            version: of what is stored.
            record: as for :meth:`append_audit`; stored in the same write, so that there is neither a
                change without its record nor a record of what did not happen.

        Returns:
            Whether it was stored; if not, another change came first, or the job does not exist.
        """

    def get_job(self, id: str) -> Row | None:
        """A job by its id."""

    def list_jobs(
        self, limit: int, before: str | None = None, states: Sequence[str] | None = None
    ) -> list[Row]:
        """Jobs by id, latest first (ids begin with their time); long ones are ``abridged``.

        Args:
            limit: maximum number.
            before: only jobs before this id.
            states: only jobs in one of these states.
        """

    def append_audit(self, record: Mapping[str, Any]) -> None:
        """Store a record of the audit trail durably; records are never changed or deleted.

        Args:
            record: JSON types; its ``id`` is new, and begins with its time.
        """

    def list_audit(self, limit: int, before: str | None = None) -> list[dict[str, Any]]:
        """Records of the audit trail by id, latest first, only those before ``before``."""

    def ping(self) -> None:
        """Return once the store has answered."""

    def close(self) -> None:
        """Close all connections; do not use the index afterwards."""


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
