"""The index for production: MongoDB, with documents that the tools of Dataphos Persistor can use.

Documents written by Dataphos Persistor are read like our own: incarnation 1, no traits, size 0, no
checksum. If it wrote a message twice, the message is returned once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from bson import decode_all
from bson.datetime_ms import DatetimeMS
from pymongo import errors as mongo
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

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
from transforms.indexes.mongodb.errors import failure_of, translated
from transforms.indexes.mongodb.jobs import MongoJobs
from transforms.indexes.mongodb.opening import SEARCH_ORDER, opened
from transforms.indexes.mongodb.query import FOREIGN, Query, behind, by_id, exact, indexed
from transforms.indexes.mongodb.replay_order import REPLAY_ORDER, can_walk, is_few, walk
from transforms.indexes.mongodb.summaries import ONCE, summaries, summary_stages, time_of
from transforms.indexes.mongodb.totals import Totals, sums
from transforms.model import ENTRY_SCHEMA
from transforms.selection import Selection, sample_and_limit

__all__ = ["ONE_HOST", "MongoIndex", "open"]

ONE_HOST = False

_ROWS = 10_000
_SUMMARIZED = 200_000
"""Documents that are counted each time, which takes less than a second."""
_EARLIEST = -(1 << 63)
_DUPLICATE = 11000


def open(url: str) -> MongoIndex:
    """Open ``mongodb://HOST/DATABASE`` or ``…/DATABASE.COLLECTION`` (else ``messages``), with its indexes.

    The URL accepts the options of MongoDB's drivers; writes are always majority and journaled.

    Raises:
        ConfigurationError: the URL is malformed, names no database or an unreadable file, or the server
            refuses us or is not trusted.
        TransientError: the server does not answer.
    """
    return MongoIndex(*opened(url))


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
        counters = messages.database.with_options(read_preference=ReadPreference.PRIMARY)
        self._totals = Totals(counters[f"{messages.name}_totals"].with_options(write_concern=WriteConcern(1)))

    def insert(self, entries: pa.Table) -> int:
        """See :meth:`transforms.indexes.Index.insert`."""
        if not len(entries):
            return 0
        with translated():
            known = self._inserted(entries)
            # By row, since one id may be there twice and new.
            new = entries.take(pa.array(sorted(set(range(len(entries))) - set(known)), pa.int64()))
            self._totals.add(sums(new))
            self._check_duplicates(entries["id"].take(pa.array(known, pa.int64())).to_pylist(), entries)
        return len(new)

    def _inserted(self, entries: pa.Table) -> list[int]:
        """Insert what is not there; returns the rows whose ids are."""
        try:
            self._messages.insert_many(documents(entries), ordered=False)
        except mongo.BulkWriteError as error:
            return _duplicates(error)
        return []

    def forget(self, locations: Sequence[str]) -> int:
        """See :meth:`transforms.indexes.Index.forget`."""
        expired = {"location_key": {"$in": list(locations)}}
        with translated():
            counted = self._messages.aggregate([{"$match": expired}, *summary_stages("$")])
            removed = self._messages.delete_many(expired).deleted_count
            self._totals.add({s.source: (s.messages, s.bytes) for s in summaries(counted.to_list())}, -1)
        return removed

    def summarize(self, selection: Selection) -> list[SourceSummary]:
        """See :meth:`transforms.indexes.Index.summarize`."""
        with translated():
            foreign = self._has_foreign()
            counting = [ONCE, *summary_stages("$first.")] if foreign else summary_stages("$")
            stages = [*_matching(self._timed(selection), {}, foreign=foreign), *counting]
            return summaries(self._messages.aggregate(stages, allowDiskUse=True).to_list())

    def count(self, selection: Selection, most: int) -> int:
        """See :meth:`transforms.indexes.Index.count`."""
        narrowed = self._with_sources(selection)
        with translated():
            if not self._has_foreign():
                return self._messages.count_documents(_query(narrowed), limit=most)
            stages = [*_matching(narrowed, {}, foreign=True), ONCE, {"$limit": most}, {"$count": "messages"}]
            return sum(found["messages"] for found in self._messages.aggregate(stages, allowDiskUse=True))

    def totals(self) -> list[SourceSummary]:
        """See :meth:`transforms.indexes.Index.totals`; exact for a small collection."""
        with translated():
            small = self._messages.estimated_document_count() <= _SUMMARIZED
            if small or self._has_foreign() or not can_walk(self._messages):
                return self.summarize(Selection(all=True))
            return [self._total(source) for source in self.sources()]

    def _total(self, source: str) -> SourceSummary:
        messages, size = self._totals.of(source, lambda: self._counted(source))
        oldest, newest = (self._outermost(source, order) for order in (1, -1))
        return SourceSummary(source, messages, size, oldest, newest, exact=False)

    def _counted(self, source: str) -> tuple[int, int]:
        sizes = self.select(Selection(sources=(source,)), ["size"])
        counted = [(len(table), pc.sum(table["size"]).as_py()) for table in sizes]
        return sum(messages for messages, _ in counted), sum(size for _, size in counted)

    def _outermost(self, source: str, order: int) -> datetime | None:
        timed = {"broker_id": source, "publish_time": {"$gte": DatetimeMS(_EARLIEST)}}
        sort = [(field, order) for field in ("broker_id", *SEARCH_ORDER)]
        found = self._messages.find_one(timed, {"publish_time_us": 1}, sort=sort)
        return time_of(None if found is None else found["publish_time_us"])

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

    def _timed(self, selection: Selection) -> Selection:
        """For a query that otherwise reads all documents, whatever their times."""
        has_times = selection.published_from or selection.published_to
        return self._with_sources(selection) if has_times else selection

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
                self._with_sources(selection), behind(after), SEARCH_ORDER, ENTRY_SCHEMA.names, limit
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
            since = {"publish_time_us": {"$gte": start}}
            stages = [*_matching(self._timed(selection), since, foreign=foreign)]
            stages += [ONCE] if foreign else []
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


def _duplicates(error: mongo.BulkWriteError) -> list[int]:
    """The rows whose ids already existed, if there was no other error."""
    failed = [*error.details["writeErrors"], *error.details["writeConcernErrors"]]
    others = [failure for failure in failed if failure["code"] != _DUPLICATE]
    if others:
        raise failure_of(others[0]["code"], others[0]) from error
    return [failure["index"] for failure in failed]


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
