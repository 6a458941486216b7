"""Counts dead letters by cause: indexed messages with the reason of their failure in headers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from transforms.indexes import Index
from transforms.selection import Selection
from transforms.times import within_calendar

__all__ = ["Cause", "Causes", "causes", "selection_for"]

_PREFIX = "attributes.persistor-error-"
_MOST = 100_000
_NAMED = ("category", "source", "stage")
_KEYS = ["held_in", *_NAMED]
_LETTERS = Selection.model_validate({"where": [{f"{_PREFIX}category": {"exists": True}}]})


@dataclass(frozen=True)
class Cause:
    """Dead letters of one kind.

    Attributes:
        held_in: the source that holds them, archived from the dead-letter topic.
        source: their original source; None if their headers do not name it.
        reason: an example.
    """

    held_in: str
    category: str
    source: str | None
    stage: str | None
    messages: int
    bytes: int
    oldest: datetime | None
    newest: datetime | None
    reason: str | None


@dataclass(frozen=True)
class Causes:
    """Kinds of dead letters, most frequent first; ``complete`` is False if not all were counted."""

    found: tuple[Cause, ...]
    complete: bool

    @property
    def messages(self) -> int:
        """The number of dead letters of all kinds."""
        return sum(cause.messages for cause in self.found)


def causes(index: Index) -> Causes:
    """Count dead letters by holding source, category, original source and stage.

    Raises:
        TransientError: the index does not answer.
    """
    columns = ["source", "attributes", "publish_time", "size"]
    counted, complete = _first(index.select(_LETTERS, columns))
    if not counted:
        return Causes((), complete)
    whole = within_calendar(pa.concat_tables(counted))
    grouped = whole.group_by(_KEYS, use_threads=False).aggregate(
        [("size", "count"), ("size", "sum"), ("time", "min"), ("time", "max"), ("reason", "first")]
    )
    found = [_cause(row) for row in grouped.to_pylist()]
    return Causes(tuple(sorted(found, key=lambda cause: -cause.messages)), complete)


def selection_for(cause: Cause) -> dict[str, Any]:
    """The JSON of a selection of the dead letters of this kind."""
    clause = {
        f"{_PREFIX}{name}": {"exists": False} if value is None else value
        for name, value in ((name, getattr(cause, name)) for name in _NAMED)
    }
    return {"sources": [cause.held_in], "where": [clause]}


def _first(tables: Iterable[pa.Table]) -> tuple[list[pa.Table], bool]:
    taken, left = [], _MOST
    for table in _described(tables):
        taken.append(table.slice(0, left))
        left -= len(table)
        if left < 0:
            return taken, False
    return taken, True


def _described(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    for table in tables:
        attributes = table["attributes"].combine_chunks()
        values = {name: _header_text(attributes, name) for name in (*_NAMED, "reason")}
        rest = {"held_in": table["source"], "size": table["size"], "time": table["publish_time"]}
        yield pa.table({**rest, **values})


def _header_text(attributes: pa.Array, name: str) -> pa.Array:
    return pc.map_lookup(attributes, pa.scalar(f"persistor-error-{name}", pa.string()), "last")


def _cause(row: dict[str, Any]) -> Cause:
    figures = (row["size_count"], row["size_sum"], row["time_min"], row["time_max"])
    return Cause(row["held_in"], row["category"], row["source"], row["stage"], *figures, row["reason_first"])
