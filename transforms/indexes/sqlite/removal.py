"""Removes entries from SQLite by their files."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from transforms.indexes.sqlite.totals import count_removed

__all__ = ["delete_files"]


def delete_files(connection: sqlite3.Connection, locations: Sequence[str]) -> int:
    """Delete the entries of files; returns their number.

    The file names stay, because reading processes cache them by number.
    """
    # Created by the first removal, so that inserts into an archive without retention do not pay for it.
    connection.execute("CREATE INDEX IF NOT EXISTS entries_by_location ON entries (location)")
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS expired (number INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM expired")
    connection.executemany(
        "INSERT OR IGNORE INTO expired SELECT number FROM names WHERE name = ?", ((one,) for one in locations)
    )
    count_removed(connection, "location IN (SELECT number FROM expired)")
    deleted = connection.execute("DELETE FROM entries WHERE location IN (SELECT number FROM expired)")
    return deleted.rowcount
