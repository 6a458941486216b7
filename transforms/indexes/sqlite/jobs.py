"""Jobs and audit trail of the SQLite index: JSON text, searched with SQLite's JSON functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transforms.indexes._job_text import brief_text, dump_text, load_record, load_row
from transforms.indexes.sqlite.file import Connections
from transforms.job_row import Row

__all__ = ["SqliteJobs"]

_JOBS = "SELECT id, ifnull(brief, job) AS job FROM jobs WHERE "
_NOTE = "INSERT INTO audit VALUES (?, ?)"
_IN_STATE = "json_extract(job, '$.state') = ?"
_BY_KEY = (
    "SELECT job FROM jobs WHERE ifnull(json_extract(job, '$.requested_by'), '') = ifnull(?, '')"
    " AND json_extract(job, '$.idempotency_key') = ?"
)


class SqliteJobs:
    """The part of :class:`transforms.indexes.Index` that concerns jobs."""

    _connections: Connections

    def create_job(self, row: Row, record: Mapping[str, Any]) -> Row:
        """See :meth:`transforms.indexes.Index.create_job`."""
        with self._connections.transaction() as connection:
            added = connection.execute(
                "INSERT INTO jobs (id, job, brief) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (row["id"], dump_text(row), brief_text(row)),
            )
            if added.rowcount:
                connection.execute(_NOTE, (record["id"], dump_text(record)))
                return row
            found = connection.execute("SELECT job FROM jobs WHERE id = ?", (row["id"],)).fetchone()
            key = row.get("requested_by"), row.get("idempotency_key")
            earlier = found or connection.execute(_BY_KEY, key).fetchone()
        return load_row(earlier[0])

    def replace_job(self, row: Row, version: int, record: Mapping[str, Any] | None = None) -> bool:
        """See :meth:`transforms.indexes.Index.replace_job`."""
        changed_row = {**row, "version": version + 1}
        with self._connections.transaction() as connection:
            changed = connection.execute(
                "UPDATE jobs SET job = ?, brief = ? WHERE id = ? AND json_extract(job, '$.version') = ?",
                (dump_text(changed_row), brief_text(changed_row), row["id"], version),
            )
            if changed.rowcount and record is not None:
                connection.execute(_NOTE, (record["id"], dump_text(record)))
            return changed.rowcount == 1

    def get_job(self, id: str) -> Row | None:
        """See :meth:`transforms.indexes.Index.get_job`."""
        with self._connections.snapshot() as connection:
            row = connection.execute("SELECT job FROM jobs WHERE id = ?", (id,)).fetchone()
        return None if row is None else load_row(row[0])

    def list_jobs(
        self, limit: int, before: str | None = None, states: Sequence[str] | None = None
    ) -> list[Row]:
        """See :meth:`transforms.indexes.Index.list_jobs`."""
        # One index range per state: only these have the requested order.
        scopes = ["TRUE"] if states is None else [_IN_STATE] * len(states)
        values = [()] if states is None else [(state,) for state in states]
        below, bound = ("", ()) if before is None else (" AND id < ?", (before,))
        union = " UNION ALL ".join(_JOBS + scope + below for scope in scopes) or f"{_JOBS} FALSE"
        sql = f"SELECT job FROM ({union}) ORDER BY id DESC LIMIT ?"  # noqa: S608 - only our own words
        parameters = [value for scope in values for value in (*scope, *bound)]
        with self._connections.snapshot() as connection:
            rows = connection.execute(sql, [*parameters, limit]).fetchall()
        return [load_row(row[0]) for row in rows]

    def append_audit(self, record: Mapping[str, Any]) -> None:
        """See :meth:`transforms.indexes.Index.append_audit`."""
        with self._connections.transaction() as connection:
            connection.execute(_NOTE, (record["id"], dump_text(record)))

    def list_audit(self, limit: int, before: str | None = None) -> list[dict[str, Any]]:
        """See :meth:`transforms.indexes.Index.list_audit`."""
        with self._connections.snapshot() as connection:
            rows = connection.execute(
                "SELECT record FROM audit WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2",
                (before, limit),
            ).fetchall()
        return [load_record(row[0]) for row in rows]
