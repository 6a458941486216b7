"""Reads a collection in replay order by short queries, each of which examines a bounded number of documents.

Nothing is sorted and no cursor stays open: after a failure the walk continues behind its last position.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, cast

from bson import MaxKey, MinKey
from pymongo import IndexModel, MongoClient
from pymongo import errors as mongo
from pymongo.collection import Collection

from transforms.errors import TransientError
from transforms.indexes.mongodb.documents import Document, projection
from transforms.indexes.mongodb.errors import translated
from transforms.indexes.mongodb.query import Query
from transforms.retry import retry

__all__ = ["REPLAY_ORDER", "can_walk", "ensure_order", "is_few", "walk"]

REPLAY_ORDER = ("broker_id", "incarnation", "partition", "offset", "unique_id")

_KEYS = [(field, 1) for field in REPLAY_ORDER]
_EXAMINED = 20_000
"""Documents between two positions of a walk."""
_BUILT_AT_ONCE = 200_000
"""Documents whose index is built while it is opened; that takes less than a second or two."""
_FEW, _MANY, _RARE = 200_000, 1_000_000, 10
_COUNTED_WITHIN = 1.0
_NO_SUCH_INDEX = 2
_PATIENCE = 300.0
"""Seconds that a walk waits for an answer before its caller begins again."""
_log = logging.getLogger(__name__)

_Position = dict[str, Any]


def ensure_order(messages: Collection[Document], connect: MongoClient[Document], **options: Any) -> None:
    """Create the index in replay order; for a large collection in the background.

    Args:
        messages: the collection.
        connect: an own client without a time limit, which is closed afterwards.
        options: of the build.
    """
    build = partial(_build, messages.with_options(), connect, options)
    if messages.estimated_document_count() <= _BUILT_AT_ONCE:
        build()
    else:
        threading.Thread(target=_unattended, args=(build,), name="replay-order", daemon=True).start()


def _build(messages: Collection[Document], client: MongoClient[Document], options: Document) -> None:
    with client:
        place = client[messages.database.name][messages.name]
        place.create_indexes([IndexModel(_KEYS)], **options)


def _unattended(build: partial[None]) -> None:
    try:
        with translated():
            build()
    except TransientError as error:
        _log.warning("Plans are sorted by MongoDB until it has the index in replay order: %s", error)


def can_walk(messages: Collection[Document]) -> bool:
    """Whether the index in replay order is there."""
    try:
        messages.find_one({}, {"_id": 1}, hint=_KEYS)
    except mongo.OperationFailure as error:
        if error.code == _NO_SUCH_INDEX:
            return False
        raise
    return True


def is_few(messages: Collection[Document], query: Query) -> bool:
    """Whether so few documents match that sorting them is quicker than walking past all others."""
    rare = min(_MANY, messages.estimated_document_count() // _RARE)
    most = max(_FEW, rare)
    try:
        counted = messages.count_documents(query, limit=most + 1, maxTimeMS=int(_COUNTED_WITHIN * 1000))
    except mongo.ExecutionTimeout:
        return False
    return counted <= most


def walk(
    messages: Collection[Document], source: str, query: Query, columns: Sequence[str]
) -> Iterator[bytes]:
    """The matching documents of a source in replay order, as BSON.

    Raises:
        TransientError: the first query failed, or a later one for longer than some minutes.
    """
    position: _Position | None = _bound(source, MinKey())
    end, patience = _bound(source, MaxKey()), 0.0
    while position is not None:
        step = partial(_step, messages, position, end, query, projection(columns))
        found, position = retry(step, "read the index", give_up_after=patience)
        yield from found
        patience = _PATIENCE


def _bound(source: str, key: Any) -> _Position:
    first, *others = REPLAY_ORDER
    return {first: source, **dict.fromkeys(others, key)}


def _step(
    messages: Collection[Document], position: _Position, end: _Position, query: Query, wanted: Document
) -> tuple[list[bytes], _Position | None]:
    """The matches among the next documents, and the position behind them."""
    with translated():
        behind = _behind(messages, position, end)
        bounds = {"hint": _KEYS, "min": position, "max": behind or end, "sort": _KEYS}
        with messages.find_raw_batches(query, wanted, batch_size=_EXAMINED, **bounds) as cursor:
            return [batch for batch in cast("Iterator[bytes]", cursor) if batch], behind


def _behind(messages: Collection[Document], position: _Position, end: _Position) -> _Position | None:
    """The position some documents later, which the index alone answers; None at the end."""
    keys = {"_id": 0, **dict.fromkeys(REPLAY_ORDER, 1)}
    found = messages.find(
        {}, keys, hint=_KEYS, min=position, max=end, sort=_KEYS, skip=_EXAMINED, limit=1
    ).to_list()
    return {field: found[0].get(field) for field in REPLAY_ORDER} if found else None
