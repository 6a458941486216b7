"""Counters of what each source holds, kept beside the documents so that nobody has to count millions.

They are approximate: a process that dies between inserting and counting, or that may not write them, leaves
them too low. So each source is counted anew from time to time.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
from pymongo import UpdateOne
from pymongo import errors as mongo
from pymongo.collection import Collection

from transforms.indexes.mongodb.documents import Document

__all__ = ["Totals", "sums"]

_COUNTED_AGAIN = 7 * 86_400.0
_log = logging.getLogger(__name__)

Sums = Mapping[str, tuple[int, int]]
"""Messages and bytes by source."""


def sums(entries: pa.Table) -> Sums:
    """Of a table with the columns ``source`` and ``size``."""
    grouped = entries.group_by("source", use_threads=False).aggregate([("size", "count"), ("size", "sum")])
    return {row["source"]: (row["size_count"], row["size_sum"]) for row in grouped.to_pylist()}


@dataclass(frozen=True)
class Totals:
    """Messages and bytes by source; ``counted`` is when all of it was last counted."""

    collection: Collection[Document]

    def add(self, by: Sums, sign: int = 1) -> None:
        """Count what was inserted, or with ``sign`` -1 what was removed; failures are logged only."""
        updates = [
            UpdateOne(
                {"_id": source}, {"$inc": {"messages": sign * messages, "bytes": sign * size}}, upsert=True
            )
            for source, (messages, size) in by.items()
        ]
        with _unharmed():
            if updates:
                self.collection.bulk_write(updates, ordered=False)

    def of(self, source: str, count: Callable[[], tuple[int, int]]) -> tuple[int, int]:
        """Messages and bytes of a source; if it was not counted for long, ``count`` does so."""
        known = self.collection.find_one({"_id": source}) or {}
        now = time.time()
        if now - known.get("counted", 0.0) > _COUNTED_AGAIN:
            self._set_right(source, known, count(), now)
            known = self.collection.find_one({"_id": source}) or {}
        return known.get("messages", 0), known.get("bytes", 0)

    def _set_right(self, source: str, known: Document, counted: tuple[int, int], now: float) -> None:
        # What was inserted meanwhile has been added to the counters, so only the difference is.
        messages, size = counted[0] - known.get("messages", 0), counted[1] - known.get("bytes", 0)
        change = {"$inc": {"messages": messages, "bytes": size}, "$set": {"counted": now}}
        # Of several that count at once, one sets it right.
        with _unharmed(), contextlib.suppress(mongo.DuplicateKeyError):
            self.collection.update_one({"_id": source, "counted": known.get("counted")}, change, upsert=True)


@contextlib.contextmanager
def _unharmed() -> Iterator[None]:
    try:
        yield
    except mongo.OperationFailure as error:
        _warn(f"MongoDB answers {(error.details or {}).get('codeName', 'error')} ({error.code})")
    except mongo.PyMongoError as error:
        _warn(type(error).__name__)


@functools.cache
def _warn(reason: str) -> None:
    """Once in a process: it would be repeated for each batch."""
    _log.warning("The counters of sources are too low until they are counted anew: %s", reason)
