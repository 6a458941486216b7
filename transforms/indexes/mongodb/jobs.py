"""Jobs and audit trail of the MongoDB index: JSON text plus the searched fields.

One document is what every MongoDB writes as a whole, also one without transactions. The record of who
asked for a job lies in the job's own document, where nothing touches it again. That of a change is
written into it together with the change, and then moved to the audit trail.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from pymongo import DESCENDING, IndexModel
from pymongo import errors as mongo
from pymongo.collection import Collection

from transforms.errors import PersistorError
from transforms.indexes._job_text import brief_text, dump_text, load_record, load_row
from transforms.indexes.mongodb.documents import Document
from transforms.indexes.mongodb.errors import translated
from transforms.job_row import Row

__all__ = ["JOB_INDEXES", "MongoJobs"]

JOB_INDEXES = [
    IndexModel([("state", 1), ("_id", -1)]),
    IndexModel(
        [("requested_by", 1), ("key", 1)], unique=True, partialFilterExpression={"key": {"$exists": True}}
    ),
    IndexModel([("noted._id", 1)], sparse=True),
]

# A linearizable read waits for a majority, without end unless it is bounded:
# https://www.mongodb.com/docs/manual/reference/read-concern-linearizable/
_ANSWERED_WITHIN, _LISTED_WITHIN = 10_000, 30_000


_BRIEF = {"$cond": [{"$eq": ["$brief.version", "$version"]}, "$brief.job", None]}
_BRIEFLY = {"job": {"$ifNull": [_BRIEF, "$job"]}}


class MongoJobs:
    """The part of :class:`transforms.indexes.Index` that concerns jobs."""

    _jobs: Collection[Document]
    _audit: Collection[Document]

    def create_job(self, row: Row, record: Mapping[str, Any]) -> Row:
        """See :meth:`transforms.indexes.Index.create_job`."""
        with translated():
            try:
                self._jobs.insert_one({"_id": row["id"], **_fields(row), "record": dump_text(record)})
            except mongo.DuplicateKeyError:
                known = [{"_id": row["id"]}, _key(row)]
                found = self._jobs.find_one(
                    {"$or": [query for query in known if query]}, max_time_ms=_ANSWERED_WITHIN
                )
                # Jobs are never deleted, so the conflicting one exists.
                return load_row((found or {})["job"])
        return row

    def replace_job(self, row: Row, version: int, record: Mapping[str, Any] | None = None) -> bool:
        """See :meth:`transforms.indexes.Index.replace_job`."""
        update: Document = {"$set": _fields({**row, "version": version + 1})}
        noted = None if record is None else {"_id": record["id"], "record": dump_text(record)}
        if noted:
            update["$push"] = {"noted": noted}
        with translated():
            changed = self._jobs.update_one({"_id": row["id"], "version": version}, update)
        if noted and changed.matched_count:
            self._move(row["id"], noted)
        return changed.matched_count == 1

    def _move(self, id: str, noted: Document) -> None:
        # What stays behind is listed from where it is.
        with contextlib.suppress(PersistorError), translated():
            with contextlib.suppress(mongo.DuplicateKeyError):
                self._audit.insert_one(noted)
            self._jobs.update_one({"_id": id}, {"$pull": {"noted": {"_id": noted["_id"]}}})

    def get_job(self, id: str) -> Row | None:
        """See :meth:`transforms.indexes.Index.get_job`."""
        with translated():
            found = self._jobs.find_one({"_id": id}, max_time_ms=_ANSWERED_WITHIN)
        return None if found is None else load_row(found["job"])

    def list_jobs(
        self, limit: int, before: str | None = None, states: Sequence[str] | None = None
    ) -> list[Row]:
        """See :meth:`transforms.indexes.Index.list_jobs`."""
        query: Document = {} if before is None else {"_id": {"$lt": before}}
        if states is not None:
            query["state"] = {"$in": list(states)}
        with translated():
            found = (
                self._jobs.find(query, _BRIEFLY, max_time_ms=_LISTED_WITHIN)
                .sort("_id", DESCENDING)
                .limit(limit)
                .to_list()
            )
        return [load_row(document["job"]) for document in found]

    def append_audit(self, record: Mapping[str, Any]) -> None:
        """See :meth:`transforms.indexes.Index.append_audit`."""
        with translated():
            self._audit.insert_one({"_id": record["id"], "record": dump_text(record)})

    def list_audit(self, limit: int, before: str | None = None) -> list[dict[str, Any]]:
        """See :meth:`transforms.indexes.Index.list_audit`."""
        query: Document = {} if before is None else {"_id": {"$lt": before}}
        with translated():
            parts = [
                places.find(query | having, {"record": 1}, max_time_ms=_LISTED_WITHIN)
                .sort("_id", DESCENDING)
                .limit(limit)
                .to_list()
                for places, having in ((self._audit, {}), (self._jobs, {"record": {"$ne": None}}))
            ]
            moving = self._jobs.find(
                {"noted._id": {"$gt": ""}}, {"noted": 1}, max_time_ms=_LISTED_WITHIN
            ).to_list()
        left = [noted for document in moving for noted in document["noted"]]
        parts.append(sorted((noted for noted in left if before is None or noted["_id"] < before),
                            key=itemgetter("_id"), reverse=True))  # fmt: skip
        found = {
            document["_id"]: document for document in heapq.merge(*parts, key=itemgetter("_id"), reverse=True)
        }
        return [load_record(document["record"]) for document in itertools.islice(found.values(), limit)]


def _fields(row: Row) -> Document:
    # As text, because MongoDB may take names in a job for paths and operators.
    searched = {name: row.get(name) for name in ("version", "state")}
    # Releases that write no brief text leave one of another version behind.
    brief = {"version": searched["version"], "job": brief_text(row)}
    return {"job": dump_text(row), "brief": brief, **searched, **_key(row)}


def _key(row: Row) -> Document:
    if row.get("idempotency_key") is None:
        return {}
    return {"requested_by": row.get("requested_by"), "key": row["idempotency_key"]}
