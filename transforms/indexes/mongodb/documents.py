"""Converts between ``ENTRY_SCHEMA`` tables and MongoDB documents in Dataphos Persistor's format."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from bson import CodecOptions, decode_all
from bson.codec_options import DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument

from transforms.indexes.mongodb import bson_columns
from transforms.indexes.mongodb.query import BINARY_KEY, FOREIGN, escape, unescape
from transforms.metadata.dataphos import BUSINESS_KEYS, POSITION
from transforms.model import ENTRY_SCHEMA

__all__ = [
    "DECODING",
    "FIELDS",
    "Document",
    "documents",
    "normalized",
    "projection",
    "table_of",
    "table_of_batch",
]

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

DECODING: CodecOptions[Document] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
)

_unescape = lru_cache(1024)(unescape)


def documents(entries: pa.Table) -> Iterator[RawBSONDocument]:
    """The documents to insert, without null columns."""
    now = np.full(len(entries), time.time_ns() // 1000)
    column = {name: _plain(entries[name]) for name in ENTRY_SCHEMA.names}
    text, binary = _keys(column["key"])
    return bson_columns.documents(
        [
            bson_columns.string(b"_id", column["id"]),
            bson_columns.string(b"broker_id", column["source"]),
            bson_columns.string(b"broker_msg_id", _broker_message_ids(column)),
            bson_columns.string(b"unique_id", column["id"]),
            bson_columns.int32(b"incarnation", column["incarnation"]),
            bson_columns.string(b"topic", column["topic"]),
            bson_columns.int32(b"partition", column["partition"]),
            bson_columns.int64(b"offset", column["offset"]),
            bson_columns.date(b"publish_time", column["publish_time"]),
            bson_columns.int64(b"publish_time_us", column["publish_time"]),
            bson_columns.date(b"ingestion_time", column["ingestion_time"]),
            bson_columns.date(b"indexer_ingestion_time", pa.array(now)),
            bson_columns.string(b"ordering_key", text),
            bson_columns.string(BINARY_KEY.encode(), binary),
            bson_columns.document(b"additional_metadata", _attribute_elements(column["attributes"])),
            bson_columns.int64(b"size", column["size"]),
            bson_columns.int32(b"traits", column["traits"]),
            bson_columns.int64(b"checksum", column["checksum"]),
            bson_columns.string(b"location_key", column["location"]),
            bson_columns.int64(b"location_position", pc.add(column["position"], 1)),
            bson_columns.false(b"confirmation_flag"),
        ]
    )


def table_of(found: Sequence[Document], columns: Sequence[str]) -> pa.Table:
    """Documents as a table of ``columns`` with the types of ``ENTRY_SCHEMA``."""
    arrays = [_array(found, name) for name in columns]
    return pa.Table.from_arrays(arrays, schema=pa.schema([ENTRY_SCHEMA.field(name) for name in columns]))


def table_of_batch(batch: bytes, columns: Sequence[str]) -> pa.Table:
    """The same from the BSON of our own documents, by columns if all have the same fields."""
    fields = bson_columns.columns(batch)
    if not fields or BINARY_KEY in fields:
        return table_of(decode_all(batch, DECODING), columns)
    schema = pa.schema([ENTRY_SCHEMA.field(name) for name in columns])
    size = len(next(iter(fields.values())))
    arrays = [_typed(fields.get(FIELDS[field.name]), field, size) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def projection(columns: Sequence[str]) -> Document:
    """The projection for :func:`table_of` with ``columns``."""
    fields = [FIELDS[name] for name in columns] + ([BINARY_KEY] if "key" in columns else [])
    return {"_id": 0, **dict.fromkeys(fields, 1)}


def normalized() -> list[Document]:
    """Pipeline stages that add our fields to documents of Dataphos Persistor, by our own rules.

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
    named = {"$objectToArray": {"$ifNull": ["$additional_metadata", {}]}}
    pairs = {"$concatArrays": [named, *map(_business_key, BUSINESS_KEYS)]}
    renamed = {"$map": {"input": pairs, "as": "pair", "in": {"k": name, "v": "$$pair.v"}}}
    return {"$arrayToObject": renamed}


def _business_key(name: str) -> Document:
    return {"$cond": [{"$gt": [f"${name}", ""]}, [{"k": name, "v": f"${name}"}], []]}


def _plain(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.cast(pa.int64()) if pa.types.is_timestamp(array.type) else array


def _broker_message_ids(column: Mapping[str, pa.Array]) -> pa.Array:
    partitions = pc.fill_null(column["partition"], 0).cast(pa.string())
    positions = pc.binary_join_element_wise(partitions, column["offset"].cast(pa.string()), "_")
    if not positions.null_count:
        return positions
    named = zip(column["id"].to_pylist(), column["source"].to_pylist(), strict=True)
    return pc.coalesce(positions, pa.array([id[len(source) + 1 :] for id, source in named], pa.string()))


def _keys(keys: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Keys that are UTF-8, and the others in the form of :data:`BINARY_KEY`."""
    try:
        return keys.cast(pa.string()), pa.nulls(len(keys), pa.string())
    except pa.ArrowInvalid:
        values = keys.to_pylist()
    texts = [_decoded(key) for key in values]
    others = [
        key.decode("latin-1") if key is not None and text is None else None
        for key, text in zip(values, texts, strict=True)
    ]
    return pa.array(texts, pa.string()), pa.array(others, pa.string())


def _decoded(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None


def _attribute_elements(attributes: pa.MapArray) -> pa.ListArray:
    names = attributes.keys.dictionary_encode()
    escaped = pa.array([escape(name) for name in names.dictionary.to_pylist()], pa.string())
    elements = bson_columns.string(escaped.cast(pa.binary()).take(names.indices), attributes.items)
    return pa.ListArray.from_arrays(attributes.offsets, elements)


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


def _typed(values: pa.Array | None, field: pa.Field, size: int) -> pa.Array:
    if values is None:
        return pa.nulls(size, field.type)
    if field.name == "position":
        values = pc.subtract(values, 1)
    if field.name == "ingestion_time":
        values = pc.multiply(values, 1000)
    return values.cast(field.type)


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
