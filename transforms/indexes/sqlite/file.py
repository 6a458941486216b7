"""The file of the SQLite index: its tables and its connections."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from transforms import budget
from transforms.errors import PermanentError, TransientError
from transforms.indexes.sqlite.totals import TOTALS

__all__ = ["BUSY_SECONDS", "Connections", "create"]

BUSY_SECONDS = 30.0

_CHECKED_EVERY = 10_000
"""Steps of SQLite's machine, about a millisecond, between two looks at the budget."""
_APPLICATION = 0x50525354
_VERSION = 1
_TABLES = f"""
PRAGMA journal_mode=WAL;
BEGIN IMMEDIATE;
PRAGMA application_id={_APPLICATION};
PRAGMA user_version={_VERSION};
CREATE TABLE IF NOT EXISTS names (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS entries (
    id TEXT NOT NULL, source INTEGER NOT NULL, incarnation INTEGER NOT NULL, topic INTEGER NOT NULL,
    partition INTEGER, offset INTEGER, publish_time INTEGER, ingestion_time INTEGER NOT NULL,
    key BLOB, attributes BLOB NOT NULL, size INTEGER NOT NULL, traits INTEGER NOT NULL,
    checksum INTEGER, location INTEGER NOT NULL, position INTEGER NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS entries_by_id ON entries (id);
CREATE INDEX IF NOT EXISTS entries_by_time ON entries (source, publish_time, id);
CREATE INDEX IF NOT EXISTS entries_by_position ON entries (source, incarnation, partition, offset, id);
CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, job TEXT NOT NULL, brief TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (json_extract(job, '$.state'), id);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_by_key
    ON jobs (ifnull(json_extract(job, '$.requested_by'), ''), json_extract(job, '$.idempotency_key'))
    WHERE json_extract(job, '$.idempotency_key') IS NOT NULL;
CREATE TABLE IF NOT EXISTS audit (id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
"""


class Connections:
    """Connections to the file, one per block; durable means synced (WAL, synchronous=FULL)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: deque[sqlite3.Connection] = deque()
        self._writing = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write: one block at a time over all threads and processes; committed if the block succeeds."""
        with self._writing, self._connection("BEGIN IMMEDIATE") as connection:
            yield connection

    def snapshot(self) -> AbstractContextManager[sqlite3.Connection]:
        """Read the state committed at the first query, whatever is written meanwhile."""
        return self._connection("BEGIN")

    @contextmanager
    def _connection(self, begin: str) -> Iterator[sqlite3.Connection]:
        """A connection for this block alone, in a transaction that ends with the block."""
        connection, done, limit = None, False, budget.current()
        try:
            connection = self._take()
            connection.set_progress_handler(None if limit is None else limit.spent, _CHECKED_EVERY)
            connection.execute(begin)
            yield connection
            connection.execute("COMMIT")
            done = True
        except sqlite3.OperationalError as error:
            if str(error) == "interrupted":
                raise budget.TooSlowError("SQLite did not finish in time") from error
            raise TransientError(f"sqlite://{self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise PermanentError(f"sqlite://{self._path}: {error}") from error
        finally:
            if connection is not None:
                self._idle.append(connection) if done else connection.close()

    def _take(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return _connect(self._path, "rw")

    def close(self) -> None:
        """Close connections not in use."""
        while self._idle:
            self._idle.pop().close()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.executescript("PRAGMA synchronous=FULL; PRAGMA cache_size=-16384;")
    return connection


def create(path: Path) -> None:
    """Create the file and its missing tables.

    Raises:
        sqlite3.DatabaseError: the file cannot be created or has other content.
        TransientError: another process kept it locked.
    """
    with closing(_connect(path, "rwc")) as connection:
        try:
            there = _tables(connection)
            # An index whose entries are damaged is opened all the same: its jobs may be whole.
            connection.executescript(f"{_TABLES}{'' if 'totals' in there else TOTALS}COMMIT;")
            connection.execute("BEGIN IMMEDIATE")
            if "brief" not in {row[1] for row in connection.execute("PRAGMA table_info(jobs)")}:
                connection.execute("ALTER TABLE jobs ADD COLUMN brief TEXT")
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise TransientError(f"sqlite://{path}: {error}") from error


def _tables(connection: sqlite3.Connection) -> set[str]:
    # In one transaction, or a file that another process creates meanwhile has tables and no mark yet.
    connection.execute("BEGIN")
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.execute("COMMIT")
    if (application, version) == (_APPLICATION, _VERSION) or not there:
        return there
    raise sqlite3.DatabaseError(
        "a newer release of Persistor made the file: use that release here too"
        if application == _APPLICATION and version > _VERSION
        else "the file belongs to another program"
    )
