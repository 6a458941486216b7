"""The embedded index: one SQLite file, shared by any number of processes on one host."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from transforms.errors import ConfigurationError
from transforms.indexes import ConflictError, SourceSummary
from transforms.indexes.sqlite.file import BUSY_SECONDS, Connections, create
from transforms.indexes.sqlite.jobs import SqliteJobs
from transforms.indexes.sqlite.query import Parameters, condition_of
from transforms.indexes.sqlite.removal import delete_files
from transforms.indexes.sqlite.rows import NAMED, rows_of, table_of
from transforms.indexes.sqlite.totals import counting, sorted_totals
from transforms.model import ENTRY_SCHEMA
from transforms.retry import retry
from transforms.secrets import resolve
from transforms.selection import Selection
from transforms.times import moment

__all__ = ["ONE_HOST", "SqliteIndex", "open"]

ONE_HOST = True

_ROWS = 10_000
_NAMES_KEPT = 10_000
_FEW = 200_000
"""Entries that are sorted within a second or two."""
_COLUMNS = ", ".join(ENTRY_SCHEMA.names)
_SOURCE_NAME = "(SELECT name FROM names WHERE number = source)"
_REPLAY_ORDER = "incarnation, partition, offset, id"
_TIME_COLUMN = ENTRY_SCHEMA.get_field_index("publish_time")

_INSERT = (
    f"INSERT INTO entries ({_COLUMNS}) VALUES ({', '.join('?' * len(ENTRY_SCHEMA.names))})"  # noqa: S608
    " ON CONFLICT (id) DO NOTHING"
)


def open(url: str) -> SqliteIndex:
    """Open ``sqlite:///path/to/file``, creating the file and its directory if missing.

    Raises:
        ConfigurationError: the URL is malformed, the file cannot be created or is not an index.
        TransientError: another process kept the file locked for too long.
    """
    resolved = resolve(url, "`index`")
    # Some write four slashes before an absolute path.
    path = Path("/" + resolved.removeprefix("sqlite://").lstrip("/"))
    if not resolved.startswith("sqlite:///") or path == Path("/"):
        raise ConfigurationError(
            f"`index` {url!r}: write sqlite:///PATH, such as sqlite:///var/lib/index.db."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Changing to WAL fails at once, not after the busy timeout, if another process does the same.
        retry(partial(create, path), f"open {url}", give_up_after=BUSY_SECONDS)
    except (OSError, sqlite3.Error) as error:
        another = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        advice = "name another file" if another else "name a file that can be written"
        raise ConfigurationError(f"`index` {url}: {error}; {advice}.") from error
    return SqliteIndex(path)


class SqliteIndex(SqliteJobs):
    """See :class:`transforms.indexes.Index`. Durable means synced to disk (WAL, synchronous=FULL).

    Only one process writes at a time; readers see a snapshot and never wait.
    """

    def __init__(self, path: Path) -> None:
        self._connections = Connections(path)
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def insert(self, entries: pa.Table) -> int:
        """See :meth:`transforms.indexes.Index.insert`; one transaction per call."""
        with self._connections.transaction() as connection:
            numbers = self._intern(connection, entries)
            with counting(connection):
                before = connection.total_changes
                connection.executemany(_INSERT, rows_of(entries, numbers))
                inserted = connection.total_changes - before
            conflicts = [] if inserted == len(entries) else _conflicts(connection, entries)
        # Not names of files, whose number keeps growing.
        files = set(pc.unique(entries["location"]).to_pylist())
        self._numbers.update({name: number for name, number in numbers.items() if name not in files})
        if conflicts:
            raise ConflictError(conflicts)
        return inserted

    def forget(self, locations: Sequence[str]) -> int:
        """See :meth:`transforms.indexes.Index.forget`; one transaction per call."""
        with self._connections.transaction() as connection:
            return delete_files(connection, locations)

    def summarize(self, selection: Selection) -> list[SourceSummary]:
        """See :meth:`transforms.indexes.Index.summarize`."""
        with self._connections.snapshot() as connection:
            condition, parameters = self._condition(connection, selection)
            rows = connection.execute(
                "SELECT source, traits, count(*), sum(size), min(publish_time), max(publish_time)"  # noqa: S608
                f" FROM entries WHERE {condition} GROUP BY source, traits",
                parameters,
            ).fetchall()
            by_source: dict[str, list[tuple[Any, ...]]] = {}
            for source, *values in rows:
                by_source.setdefault(self._name_of(connection, source), []).append(tuple(values))
        return [_summary(source, by_source[source]) for source in sorted(by_source)]

    def count(self, selection: Selection, most: int) -> int:
        """See :meth:`transforms.indexes.Index.count`."""
        with self._connections.snapshot() as connection:
            condition, parameters = self._condition(connection, selection)
            limited = f"SELECT 1 FROM entries WHERE {condition} LIMIT {parameters.bind(most)}"  # noqa: S608
            [(found,)] = connection.execute(f"SELECT count(*) FROM ({limited})", parameters)  # noqa: S608
            return int(found)

    def totals(self) -> list[SourceSummary]:
        """See :meth:`transforms.indexes.Index.totals`; always exact."""
        with self._connections.snapshot() as connection:
            return [
                SourceSummary(self._name_of(connection, source), messages, size, _time(oldest), _time(newest))
                for source, messages, size, oldest, newest in sorted_totals(connection)
            ]

    def select(self, selection: Selection, columns: list[str]) -> Iterator[pa.Table]:
        """See :meth:`transforms.indexes.Index.select`; reads one snapshot."""
        wanted = ", ".join(ENTRY_SCHEMA.field(name).name for name in columns)
        with self._connections.snapshot() as connection:
            name_of = partial(self._name_of, connection)
            walked = self._walked(connection, selection)
            for (scope, parameters), along in zip(self._scopes(connection, selection), walked, strict=True):
                order = f"{_SOURCE_NAME}, {_REPLAY_ORDER}" if selection.ids else _REPLAY_ORDER
                sql = f"SELECT {wanted} FROM entries {along} WHERE {scope} ORDER BY {order}"  # noqa: S608
                with closing(connection.execute(sql, parameters)) as cursor:
                    for rows in iter(partial(cursor.fetchmany, _ROWS), []):
                        yield table_of(rows, columns, name_of)

    def search(
        self, selection: Selection, limit: int, after: tuple[int | None, str] | None = None
    ) -> pa.Table:
        """See :meth:`transforms.indexes.Index.search`."""
        with self._connections.snapshot() as connection:
            pages = [
                self._ordered(connection, scope, parameters, after)
                for scope, parameters in self._scopes(connection, selection)
            ]
            return table_of(_first(pages, limit), ENTRY_SCHEMA.names, partial(self._name_of, connection))

    def get(self, id: str) -> pa.Table:
        """See :meth:`transforms.indexes.Index.get`."""
        with self._connections.snapshot() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM entries WHERE id = ?", (id,)).fetchall()  # noqa: S608
            return table_of(rows, ENTRY_SCHEMA.names, partial(self._name_of, connection))

    def sources(self) -> list[str]:
        """See :meth:`transforms.indexes.Index.sources`."""
        with self._connections.snapshot() as connection:
            return sorted(_sources(connection))

    def files(self) -> dict[str, int]:
        """See :meth:`transforms.indexes.Index.files`."""
        with self._connections.snapshot() as connection:
            rows = connection.execute("SELECT source, count(DISTINCT location) FROM entries GROUP BY source")
            return {self._name_of(connection, source): files for source, files in rows.fetchall()}

    def histogram(self, selection: Selection, start: int, width: int) -> dict[int, int]:
        """See :meth:`transforms.indexes.Index.histogram`."""
        with self._connections.snapshot() as connection:
            condition, parameters = self._condition(connection, selection)
            begin = parameters.bind(start)
            rows = connection.execute(
                f"SELECT (publish_time - {begin}) / {parameters.bind(width)}, count(*) FROM entries"  # noqa: S608
                f" WHERE {condition} AND publish_time >= {begin} GROUP BY 1",
                parameters,
            )
            return dict(rows.fetchall())

    def ping(self) -> None:
        """See :meth:`transforms.indexes.Index.ping`."""
        with self._connections.snapshot() as connection:
            connection.execute("SELECT 1 FROM names LIMIT 1").fetchall()

    def close(self) -> None:
        """See :meth:`transforms.indexes.Index.close`."""
        self._connections.close()

    def _intern(self, connection: sqlite3.Connection, entries: pa.Table) -> dict[str, int]:
        names = {name for column in NAMED for name in pc.unique(entries[column]).to_pylist()}
        numbers = {name: self._numbers[name] for name in names if name in self._numbers}
        for name in sorted(names - numbers.keys()):
            connection.execute("INSERT INTO names (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            found = connection.execute("SELECT number FROM names WHERE name = ?", (name,))
            numbers[name] = found.fetchone()[0]
        return numbers

    def _name_of(self, connection: sqlite3.Connection, number: int) -> str:
        name = self._names.get(number)
        if name is None:
            if len(self._names) >= _NAMES_KEPT:
                self._names.clear()
            found = connection.execute("SELECT name FROM names WHERE number = ?", (number,))
            name = self._names[number] = found.fetchone()[0]
        return name

    def _condition(self, connection: sqlite3.Connection, selection: Selection) -> tuple[str, Parameters]:
        parameters = Parameters()
        condition = condition_of(selection, parameters)
        if selection.sources:
            known = _sources(connection)
            wanted = [known[source] for source in selection.sources if source in known]
            # The plus sign makes SQLite use the index by id, if ids are given.
            condition += f" AND {'+' if selection.ids else ''}source IN {parameters.bind_all(wanted)}"
        return condition, parameters

    def _scopes(
        self, connection: sqlite3.Connection, selection: Selection
    ) -> Iterator[tuple[str, Parameters]]:
        """One query per source, in order, so that an index returns the rows already sorted."""
        if selection.ids:
            yield self._condition(connection, selection)
            return
        parameters = Parameters()
        condition = condition_of(selection, parameters)
        known = _sources(connection)
        wanted = known.keys() & set(selection.sources) if selection.sources else known
        for source in sorted(wanted):
            scope = Parameters(parameters)
            yield f"{condition} AND source = {scope.bind(known[source])}", scope

    def _walked(self, connection: sqlite3.Connection, selection: Selection) -> Iterator[str]:
        """For each scope: which index to read along, because sorting what its times select takes too long."""
        has_times = selection.published_from or selection.published_to
        timed = selection.model_copy(update={"where": ()})
        for scope, parameters in self._scopes(connection, timed):
            limited = f"SELECT 1 FROM entries WHERE {scope} LIMIT {_FEW + 1}"  # noqa: S608
            counting = f"SELECT count(*) FROM ({limited})"  # noqa: S608
            is_few = selection.ids or not has_times
            few = is_few or connection.execute(counting, parameters).fetchone()[0] <= _FEW
            yield "" if few else "INDEXED BY entries_by_position"

    def _ordered(
        self,
        connection: sqlite3.Connection,
        scope: str,
        parameters: Parameters,
        after: tuple[int | None, str] | None,
    ) -> Generator[tuple[Any, ...]]:
        for bound in _bounds(after, parameters):
            sql = f"SELECT {_COLUMNS} FROM entries WHERE {scope} AND {bound} ORDER BY publish_time, id"  # noqa: S608
            with closing(connection.execute(sql, parameters)) as cursor:
                yield from cursor


def _sources(connection: sqlite3.Connection) -> dict[str, int]:
    """Jumps from source to source along an index instead of reading every entry."""
    rows = connection.execute(
        "WITH RECURSIVE known (number) AS (SELECT min(source) FROM entries UNION ALL"
        " SELECT (SELECT min(source) FROM entries WHERE source > number) FROM known WHERE number IS NOT NULL)"
        " SELECT name, number FROM known JOIN names USING (number)"
    )
    return dict(rows.fetchall())


def _conflicts(connection: sqlite3.Connection, entries: pa.Table) -> list[str]:
    conflicts: list[str] = []
    for batch in entries.select(["id", "checksum"]).to_batches(max_chunksize=_ROWS):
        ids, checksums = (column.to_pylist() for column in batch.columns)
        marks = ", ".join("?" * len(ids))
        stored = dict(connection.execute(f"SELECT id, checksum FROM entries WHERE id IN ({marks})", ids))  # noqa: S608
        pairs = zip(ids, checksums, strict=True)
        conflicts += [id for id, checksum in pairs if _differ(checksum, stored[id])]
    return conflicts


def _differ(given: int | None, stored: int | None) -> bool:
    return given is not None and stored is not None and given != stored


def _bounds(after: tuple[int | None, str] | None, parameters: Parameters) -> list[str]:
    """Conditions for entries after a row, in order; entries without a publish time come first."""
    if after is None:
        return ["1"]
    time, id = after
    if time is None:
        return [f"publish_time IS NULL AND id > {parameters.bind(id)}", f"publish_time >= {-(1 << 63)}"]
    return [f"(publish_time, id) > ({parameters.bind(time)}, {parameters.bind(id)})"]


def _first(pages: Sequence[Generator[tuple[Any, ...]]], limit: int) -> list[tuple[Any, ...]]:
    rows = list(islice(heapq.merge(*pages, key=_search_key), limit))
    for page in pages:
        page.close()
    return rows


def _search_key(row: tuple[Any, ...]) -> tuple[bool, int, str]:
    time = row[_TIME_COLUMN]
    return time is not None, time or 0, row[0]


def _summary(source: str, rows: Sequence[tuple[Any, ...]]) -> SourceSummary:
    traits, counts, sizes, oldest, newest = zip(*rows, strict=True)
    return SourceSummary(
        source=source,
        messages=sum(counts),
        bytes=sum(sizes),
        oldest=_time(min((us for us in oldest if us is not None), default=None)),
        newest=_time(max((us for us in newest if us is not None), default=None)),
        traits=dict(zip(traits, counts, strict=True)),
    )


def _time(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else moment(microseconds)
