"""Between ``ENTRY_SCHEMA`` tables and MongoDB documents with the field names of Dataphos Persistor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from bson.datetime_ms import DatetimeMS

from transforms.dataphos import POSITION
from transforms.indexes._mongo_query import BINARY_KEY, FOREIGN, escape, unescape
from transforms.model import ENTRY_SCHEMA

Document = dict[str, Any]

FIELDS = {
    "id": "unique_id",
    "source": "broker_id",
    "incarnation": "incarnation",
    "topic": "topic",
    "partition": "partition",
    "offset": "offset",
    "publish_time": "publish_time_us",
    "ingestion_time": "ingestion_time",
    "key": "ordering_key",
    "attributes": "additional_metadata",
    "size": "size",
    "traits": "traits",
    "checksum": "checksum",
    "location": "location_key",
    "position": "location_position",
}
"""The field that holds each column of ``ENTRY_SCHEMA``."""

_OPTIONAL = ("partition", "offset", "publish_time_us", "checksum")
_escape = lru_cache(1024)(escape)
_unescape = lru_cache(1024)(unescape)


def documents(entries: pa.Table) -> Iterator[Document]:
    """The documents to insert, null columns left out."""
    now = DatetimeMS(datetime.now(timezone.utc))
    plain = [_plain(entries[name]) for name in ENTRY_SCHEMA.names]
    for (
        id,
        source,
        incarnation,
        topic,
        partition,
        offset,
        published,
        ingested,
        key,
        attributes,
        size,
        traits,
        checksum,
        location,
        position,
    ) in zip(*plain, strict=True):
        document = {
            "_id": id,
            "broker_id": source,
            "broker_msg_id": _broker_message_id(id, source, partition, offset),
            "unique_id": id,
            "incarnation": incarnation,
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "publish_time_us": published,
            "ingestion_time": DatetimeMS(ingested // 1000),
            "indexer_ingestion_time": now,
            "additional_metadata": {_escape(name): value for name, value in attributes},
            "size": size,
            "traits": traits,
            "checksum": checksum,
            "location_key": location,
            "location_position": position + 1,
            "confirmation_flag": False,
        }
        if published is not None:
            document["publish_time"] = DatetimeMS(published // 1000)
        if key is not None:
            document.update(_key_fields(key))
        for name in _OPTIONAL:
            if document[name] is None:
                del document[name]
        yield document


def table_of(found: Sequence[Document], columns: Sequence[str]) -> pa.Table:
    """Documents as a table of ``columns`` with the types of ``ENTRY_SCHEMA``."""
    arrays = [_array(found, name) for name in columns]
    return pa.Table.from_arrays(arrays, schema=pa.schema([ENTRY_SCHEMA.field(name) for name in columns]))


def projection(columns: Sequence[str]) -> Document:
    """What to ask for, so that :func:`table_of` gives ``columns``."""
    fields = [FIELDS[name] for name in columns] + ([BINARY_KEY] if "key" in columns else [])
    return {"_id": 0, **dict.fromkeys(fields, 1)}


def normalized() -> list[Document]:
    """Stages that give documents of Dataphos Persistor our fields, by the same rules as our own documents.

    Its ``broker_msg_id`` is ``<partition>_<offset>`` for Kafka; times are in ms; names of
    attributes are not escaped.
    """
    numbers = {"$regexFind": {"input": "$broker_msg_id", "regex": POSITION}}
    computed = {
        "incarnation": 1,
        "topic": "$broker_id",
        "partition": {"$toInt": {"$arrayElemAt": ["$numbers.captures", 0]}},
        "offset": {"$toLong": {"$arrayElemAt": ["$numbers.captures", 1]}},
        "publish_time_us": {"$multiply": [{"$toLong": "$publish_time"}, {"$toLong": 1000}]},
        "additional_metadata": _escaped_names(),
        "size": 0,
        "traits": 0,
    }
    foreign = {"$eq": [{"$type": "$_id"}, FOREIGN["_id"]["$type"]]}
    chosen = {name: {"$cond": [foreign, value, f"${name}"]} for name, value in computed.items()}
    return [{"$set": {"numbers": numbers}}, {"$set": chosen}, {"$unset": "numbers"}]


def _escaped_names() -> Document:
    escaped: Any = "$$pair.k"
    for character, code in (("%", "%25"), (".", "%2E")):
        escaped = {"$replaceAll": {"input": escaped, "find": character, "replacement": code}}
    dollar = {"$eq": [{"$substrCP": ["$$pair.k", 0, 1]}, {"$literal": "$"}]}
    rest = {"$substrCP": [escaped, 1, {"$strLenCP": escaped}]}
    name = {
        "$switch": {
            "branches": [
                {"case": {"$eq": ["$$pair.k", ""]}, "then": "%"},
                {"case": dollar, "then": {"$concat": ["%24", rest]}},
            ],
            "default": escaped,
        }
    }
    pairs = {"$objectToArray": {"$ifNull": ["$additional_metadata", {}]}}
    renamed = {"$map": {"input": pairs, "as": "pair", "in": {"k": name, "v": "$$pair.v"}}}
    return {"$arrayToObject": renamed}


def _plain(column: pa.ChunkedArray) -> list[Any]:
    return (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()


def _broker_message_id(id: str, source: str, partition: int | None, offset: int | None) -> str:
    return id[len(source) + 1 :] if offset is None else f"{partition or 0}_{offset}"


def _key_fields(key: bytes) -> Document:
    try:
        return {"ordering_key": key.decode()}
    except UnicodeDecodeError:
        return {BINARY_KEY: key.decode("latin-1")}


def _array(found: Sequence[Document], name: str) -> pa.Array:
    field, kind = FIELDS[name], ENTRY_SCHEMA.field(name).type
    if name == "key":
        return pa.array([_key_of(document) for document in found], kind)
    values = [document.get(field) for document in found]
    if name == "position":
        return pc.subtract(pa.array(values, kind), 1)
    if name in _CONVERTED:
        return pa.array(_CONVERTED[name](values), kind)
    return pa.array(values, pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)


def _key_of(document: Document) -> bytes | None:
    text = document.get("ordering_key")
    if text is not None:
        return text.encode()
    binary = document.get(BINARY_KEY)
    return None if binary is None else binary.encode("latin-1")


def _attributes(values: list[Document]) -> list[list[tuple[str, str]]]:
    return [[(_unescape(name), value) for name, value in fields.items()] for fields in values]


def _milliseconds(values: list[DatetimeMS]) -> list[int]:
    return [int(value) * 1000 for value in values]


_CONVERTED: dict[str, Callable[[list[Any]], list[Any]]] = {
    "attributes": _attributes,
    "ingestion_time": _milliseconds,
}
