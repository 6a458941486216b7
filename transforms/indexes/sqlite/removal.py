"""Removing entries of SQLite by their files."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

__all__ = ["delete_files"]


def delete_files(connection: sqlite3.Connection, locations: Sequence[str]) -> int:
    """Delete the entries of files; returns how many there were.

    The files' names stay: processes that read remember them by their numbers.
    """
    # Made by the first removal: an archive that is kept for ever need not pay for it at each insert.
    connection.execute("CREATE INDEX IF NOT EXISTS entries_by_location ON entries (location)")
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS expired (number INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM expired")
    connection.executemany(
        "INSERT OR IGNORE INTO expired SELECT number FROM names WHERE name = ?", ((one,) for one in locations)
    )
    deleted = connection.execute("DELETE FROM entries WHERE location IN (SELECT number FROM expired)")
    return deleted.rowcount
