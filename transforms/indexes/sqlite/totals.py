"""Counters of what each source holds, changed in the same transaction as the entries, so they are exact."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TOTALS", "count_removed", "counting", "sorted_totals"]

_SUMS = "SELECT source, count(*), sum(size) FROM entries"

TOTALS = f"""
CREATE TABLE IF NOT EXISTS totals (
    source INTEGER PRIMARY KEY, messages INTEGER NOT NULL, bytes INTEGER NOT NULL
);
INSERT INTO totals {_SUMS} WHERE NOT EXISTS (SELECT 1 FROM totals) GROUP BY source;
"""  # noqa: S608 - no value of anybody is in it
"""Creates the counters, of a file of an older release from its entries."""

_ADDED = (
    f"INSERT INTO totals {_SUMS} WHERE rowid > ? GROUP BY source"
    " ON CONFLICT (source) DO UPDATE"
    " SET messages = messages + excluded.messages, bytes = bytes + excluded.bytes"
)
_ALL = (
    "SELECT source, messages, bytes,"
    " (SELECT min(publish_time) FROM entries WHERE entries.source = totals.source),"
    " (SELECT max(publish_time) FROM entries WHERE entries.source = totals.source)"
    " FROM totals JOIN names ON number = source ORDER BY name"
)


@contextmanager
def counting(connection: sqlite3.Connection) -> Iterator[None]:
    """Count the entries that are inserted in this block, which is within a transaction."""
    [(last,)] = connection.execute("SELECT ifnull(max(rowid), 0) FROM entries")
    yield
    connection.execute(_ADDED, (last,))


def count_removed(connection: sqlite3.Connection, condition: str) -> None:
    """Subtract the entries that match, before they are deleted."""
    removed = connection.execute(f"{_SUMS} WHERE {condition} GROUP BY source").fetchall()
    connection.executemany(
        "UPDATE totals SET messages = messages - ?2, bytes = bytes - ?3 WHERE source = ?1", removed
    )
    connection.execute("DELETE FROM totals WHERE messages = 0")


def sorted_totals(connection: sqlite3.Connection) -> list[tuple[int, int, int, int | None, int | None]]:
    """Source, messages, bytes, earliest and latest publish time, by the sources' names."""
    return connection.execute(_ALL).fetchall()
