"""The index for production: MongoDB, with documents that the tools of Dataphos Persistor can use.

Documents written by Dataphos Persistor are read like our own: incarnation 1, no traits, size 0, no
checksum. If it wrote a message twice, the message is returned once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa
from bson import decode_all
from pymongo import IndexModel, MongoClient
from pymongo import errors as mongo
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.uri_parser import parse_uri

from transforms.errors import ConfigurationError
from transforms.indexes import ConflictError, SourceSummary
from transforms.indexes.mongodb.documents import (
    DECODING,
    Document,
    documents,
    normalized,
    projection,
    table_of,
    table_of_batch,
)
from transforms.indexes.mongodb.errors import RefusedError, failure_of, translated
from transforms.indexes.mongodb.jobs import JOB_INDEXES, MongoJobs
from transforms.indexes.mongodb.query import FOREIGN, Query, behind, by_id, exact, indexed
from transforms.indexes.mongodb.replay_order import REPLAY_ORDER, can_walk, ensure_order, is_few, walk
from transforms.model import ENTRY_SCHEMA
from transforms.secrets import resolve
from transforms.selection import Selection, sample_and_limit
from transforms.times import moment

__all__ = ["ONE_HOST", "MongoIndex", "open"]

ONE_HOST = False

_ROWS = 10_000
_TIMEOUTS: dict[str, Any] = {
    "serverSelectionTimeoutMS": 3_000,
    "connectTimeoutMS": 3_000,
    "socketTimeoutMS": 120_000,
}
_DURABLE = {"w": "majority", "journal": True}
_DUPLICATE = 11000
# Milliseconds grow with microseconds, so this is the order of (publish time, id), and an index supports it.
_SEARCH_ORDER = ("publish_time", "publish_time_us", "unique_id")
_INDEXES = [
    IndexModel([("broker_id", 1), *((field, 1) for field in _SEARCH_ORDER)]),
    IndexModel([("additional_metadata.$**", 1)]),
    IndexModel([("location_key", 1)]),
    IndexModel([("unique_id", 1)], partialFilterExpression=FOREIGN),
]


def open(url: str) -> MongoIndex:
    """Open ``mongodb://HOST/DATABASE`` or ``…/DATABASE.COLLECTION`` (else ``messages``), with its indexes.

    The URL accepts the options of MongoDB's drivers; writes are always majority and journaled.

    Raises:
        ConfigurationError: the URL is malformed, names no database or an unreadable file, or the server
            refuses us or is not trusted.
        TransientError: the server does not answer.
    """
    shown = re.sub(r"//[^/]*@", "//…@", url)
    try:
        resolved = resolve(url, "`index`")
        place = parse_uri(resolved)
        if not place["database"]:
            raise ConfigurationError(f"`index` {shown}: name the database, as in mongodb://HOST/persistor.")
        ours = {name: value for name, value in _TIMEOUTS.items() if name not in place["options"]} | _DURABLE
        client: MongoClient[Document] = MongoClient(resolved, **ours)
        messages = client[place["database"]][place["collection"] or "messages"]
    except (mongo.ConfigurationError, mongo.InvalidName, ValueError, TypeError, OSError) as error:
        raise ConfigurationError(f"`index` {shown}: {error}.") from error
    try:
        with translated():
            replicated = bool({"setName", "msg"} & client.admin.command("hello").keys())
            # Otherwise a replica set would wait for a stopped member before it has a new index.
            enough: dict[str, Any] = {"commitQuorum": "majority"} if replicated else {}
            messages.create_indexes(_INDEXES, **enough)
            messages.database[f"{messages.name}_jobs"].create_indexes(JOB_INDEXES, **enough)
            patient: MongoClient[Document] = MongoClient(resolved, **{**ours, "socketTimeoutMS": 0})
            ensure_order(messages, patient, **enough)
    except RefusedError as error:
        client.close()
        raise ConfigurationError(f"`index` {shown}: {error}.") from error
    except BaseException:
        client.close()
        raise
    # Reads of jobs are never undone by an election, nor older than earlier confirmed writes.
    decisive = ReadConcern("linearizable" if replicated else None)
    return MongoIndex(messages.with_options(codec_options=DECODING), decisive)


class MongoIndex(MongoJobs):
    """See :class:`transforms.indexes.Index`. Durable means ``w=majority, j=true``.

    Ingestion times are kept in ms, publish times in µs.
    """

    def __init__(self, messages: Collection[Document], decisive: ReadConcern) -> None:
        """Use the collection of messages; ``decisive`` serves decisions about jobs."""
        self._messages = messages
        # The URL may send searches to lagging members, but decisions must not come from them.
        self._current = messages.with_options(read_preference=ReadPreference.PRIMARY)
        beside = messages.database.with_options(read_preference=ReadPreference.PRIMARY, read_concern=decisive)
        self._jobs = beside[f"{messages.name}_jobs"]
        self._audit = beside[f"{messages.name}_audit"]

    def insert(self, entries: pa.Table) -> int:
        """See :meth:`transforms.indexes.Index.insert`."""
        if not len(entries):
            return 0
        with translated():
            try:
                self._messages.insert_many(documents(entries), ordered=False)
            except mongo.BulkWriteError as error:
                self._check_duplicates(_duplicates(error), entries)
                return int(error.details["nInserted"])
        return len(entries)

    def forget(self, locations: Sequence[str]) -> int:
        """See :meth:`transforms.indexes.Index.forget`."""
        with translated():
            return self._messages.delete_many({"location_key": {"$in": list(locations)}}).deleted_count

    def summarize(self, selection: Selection) -> list[SourceSummary]:
        """See :meth:`transforms.indexes.Index.summarize`."""
        with translated():
            foreign = self._has_foreign()
            counting = [_ONCE, *_summary_stages("$first.")] if foreign else _summary_stages("$")
            stages = [*_matching(selection, {}, foreign=foreign), *counting]
            return _summaries(self._messages.aggregate(stages, allowDiskUse=True).to_list())

    def select(self, selection: Selection, columns: list[str]) -> Iterator[pa.Table]:
        """See :meth:`transforms.indexes.Index.select`."""
        with translated():
            walked = self._is_walked(selection)
        if not walked:
            yield from self._read(selection, {}, REPLAY_ORDER, columns)
            return
        query = exact(selection, foreign=False)
        for source in sorted({*selection.sources} or self.sources()):
            for batch in walk(self._messages, source, query, columns):
                yield from _tables(table_of_batch(batch, columns))

    def _is_walked(self, selection: Selection) -> bool:
        """Whether the selection is read along the index in replay order, else it is sorted by the server."""
        if selection.ids or self._has_foreign() or not can_walk(self._messages):
            return False
        narrowed = selection.where or selection.published_from or selection.published_to
        return not (narrowed and is_few(self._messages, _query(self._with_sources(selection))))

    def _with_sources(self, selection: Selection) -> Selection:
        """Indexes begin with the source, so the server needs their names to use them."""
        if selection.sources or selection.ids:
            return selection
        return selection.model_copy(update={"sources": tuple(self.sources())})

    def search(
        self, selection: Selection, limit: int, after: tuple[int | None, str] | None = None
    ) -> pa.Table:
        """See :meth:`transforms.indexes.Index.search`."""
        with translated():
            found = self._read(
                self._with_sources(selection), behind(after), _SEARCH_ORDER, ENTRY_SCHEMA.names, limit
            )
            page = sample_and_limit(found, Selection(all=True, limit=limit))
            return pa.concat_tables([ENTRY_SCHEMA.empty_table(), *page])

    def get(self, id: str) -> pa.Table:
        """See :meth:`transforms.indexes.Index.get`."""
        with translated():
            foreign = self._has_foreign()
            stages = [{"$match": by_id([id], foreign=foreign)}, *(normalized() if foreign else [])]
            # If a message exists twice, ours comes first: strings sort before object ids.
            last: list[Document] = [
                {"$sort": {"_id": 1}},
                {"$limit": 1},
                {"$project": projection(ENTRY_SCHEMA.names)},
            ]
            return table_of(self._messages.aggregate([*stages, *last]).to_list(), ENTRY_SCHEMA.names)

    def sources(self) -> list[str]:
        """See :meth:`transforms.indexes.Index.sources`."""
        with translated():
            return sorted(self._messages.distinct("broker_id"))

    def files(self) -> dict[str, int]:
        """See :meth:`transforms.indexes.Index.files`; reads one document per file."""
        stages: list[Document] = [
            {"$sort": {"location_key": 1}},
            {"$group": {"_id": "$location_key", "source": {"$first": "$broker_id"}}},
            {"$group": {"_id": "$source", "files": {"$sum": 1}}},
        ]
        with translated():
            return {found["_id"]: found["files"] for found in self._messages.aggregate(stages)}

    def histogram(self, selection: Selection, start: int, width: int) -> dict[int, int]:
        """See :meth:`transforms.indexes.Index.histogram`."""
        with translated():
            foreign = self._has_foreign()
            stages = [*_matching(selection, {"publish_time_us": {"$gte": start}}, foreign=foreign)]
            stages += [_ONCE] if foreign else []
            passed = {"$subtract": [f"{'$first.' if foreign else '$'}publish_time_us", start]}
            begin = {"$subtract": [passed, {"$mod": [passed, width]}]}
            stages.append({"$group": {"_id": begin, "messages": {"$sum": 1}}})
            found = self._messages.aggregate(stages, allowDiskUse=True)
            return {int(bucket["_id"]) // width: bucket["messages"] for bucket in found}

    def ping(self) -> None:
        """See :meth:`transforms.indexes.Index.ping`."""
        with translated():
            self._messages.database.command("ping")

    def close(self) -> None:
        """See :meth:`transforms.indexes.Index.close`."""
        self._messages.database.client.close()

    def _has_foreign(self) -> bool:
        return self._messages.find_one(FOREIGN, {"_id": 1}) is not None

    def _read(
        self,
        selection: Selection,
        bound: Query,
        order: Sequence[str],
        columns: Sequence[str],
        limit: int | None = None,
    ) -> Iterator[pa.Table]:
        with translated():
            foreign = self._has_foreign()
            stages: list[Document] = _matching(selection, bound, foreign=foreign)
            if not foreign:
                stages.append({"$sort": dict.fromkeys(order, 1)})
                stages += [] if limit is None else [{"$limit": limit}]
                stages.append({"$project": projection(columns)})
            else:
                stages.append({"$sort": dict.fromkeys([*order, "_id"], 1)})
                stages.append({"$project": projection([*columns, "id"])})
            cursor = self._messages.aggregate_raw_batches(stages, allowDiskUse=True, batchSize=_ROWS)
        last = None
        with cursor:
            for batch in filter(None, iter(partial(_following, cursor), None)):
                if not foreign:
                    yield table_of_batch(batch, columns)
                    continue
                found = decode_all(batch, DECODING)
                yield table_of(_without_repeats(found, last), columns)
                last = found[-1]["unique_id"]

    def _check_duplicates(self, ids: Sequence[str], entries: pa.Table) -> None:
        found = self._current.find({"_id": {"$in": list(ids)}}, {"checksum": 1})
        stored = {document["_id"]: document.get("checksum") for document in found}
        pairs = zip(entries["id"].to_pylist(), entries["checksum"].to_pylist(), strict=True)
        conflicts = [id for id, checksum in pairs if _differ(checksum, stored.get(id))]
        if conflicts:
            raise ConflictError(conflicts)


def _following(cursor: Any) -> bytes | None:
    with translated():
        return next(cursor, None)


def _duplicates(error: mongo.BulkWriteError) -> list[str]:
    """Ids that already existed, if there was no other error."""
    failed = [*error.details["writeErrors"], *error.details["writeConcernErrors"]]
    others = [failure for failure in failed if failure["code"] != _DUPLICATE]
    if others:
        raise failure_of(others[0]["code"], others[0]) from error
    return [failure["op"]["_id"] for failure in failed]


def _differ(given: int | None, stored: int | None) -> bool:
    return given is not None and stored is not None and given != stored


def _query(selection: Selection) -> Query:
    return {"$and": [indexed(selection, foreign=False), exact(selection, foreign=False)]}


def _tables(found: pa.Table) -> Iterator[pa.Table]:
    """In parts of bounded size."""
    for first in range(0, len(found), _ROWS):
        yield found.slice(first, _ROWS)


def _matching(selection: Selection, bound: Query, *, foreign: bool) -> list[Document]:
    stages = [{"$match": indexed(selection, foreign=foreign)}]
    if foreign:
        stages += normalized()
    return [*stages, {"$match": {"$and": [exact(selection, foreign=foreign), bound]}}]


def _without_repeats(found: list[Document], last: str | None) -> list[Document]:
    before = [last, *(document["unique_id"] for document in found)]
    return [document for document, id in zip(found, before, strict=False) if document["unique_id"] != id]


_ONCE: Document = {"$group": {"_id": "$unique_id", "first": {"$first": "$$ROOT"}}}


def _summary_stages(root: str) -> list[Document]:
    group = {
        "_id": {"source": f"{root}broker_id", "traits": f"{root}traits"},
        "messages": {"$sum": 1},
        "bytes": {"$sum": f"{root}size"},
        "oldest": {"$min": f"{root}publish_time_us"},
        "newest": {"$max": f"{root}publish_time_us"},
    }
    return [{"$group": group}]


def _summaries(found: Sequence[Document]) -> list[SourceSummary]:
    by_source: dict[str, list[Document]] = {}
    for document in found:
        by_source.setdefault(document["_id"]["source"], []).append(document)
    return [_summary(source, by_source[source]) for source in sorted(by_source)]


def _summary(source: str, parts: Sequence[Document]) -> SourceSummary:
    return SourceSummary(
        source=source,
        messages=sum(part["messages"] for part in parts),
        bytes=sum(part["bytes"] for part in parts),
        oldest=_time(min((part["oldest"] for part in parts if part["oldest"] is not None), default=None)),
        newest=_time(max((part["newest"] for part in parts if part["newest"] is not None), default=None)),
        traits={part["_id"]["traits"]: part["messages"] for part in parts},
    )


def _time(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else moment(microseconds)
