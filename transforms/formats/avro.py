"""Avro object container files, whose first fields are those of Dataphos Persistor.

Its tools read ``ID``, ``Data`` and ``Metadata`` of our files (headers as attributes: those that are valid
UTF-8, the last value of a name). Its own files have no other fields: they are read with null checksums,
``Metadata`` values as bytes, and an empty topic.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import fastavro
import pyarrow as pa
from fastavro.schema import SchemaParseException

from transforms._columns import column, headers
from transforms.entries import attributes
from transforms.errors import PermanentError
from transforms.formats._common import Bounds, Rows, bounds_of_whole, checked, damage, header_lists, take
from transforms.lake import LakeFile
from transforms.model import FILE_SCHEMA

__all__ = ["bounds", "decode", "encode", "read_rows"]

_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    SchemaParseException,
    TypeError,
    ValueError,
    zlib.error,
)
_COUNT = "persistor.messages"
# The only codec that every Avro library has; level 1 is three times as fast as the default.
_CODEC, _LEVEL = "deflate", 1
_BLOCK = 256 * 1024

_ID_IS_NULL, _DATA_IS_NULL = 1, 2
_THEIRS: list[dict[str, Any]] = [
    {"name": "ID", "type": "string"},
    {"name": "Data", "type": "bytes"},
    {"name": "Metadata", "type": {"type": "map", "values": "string"}},
]
_HEADER = {
    "type": "record",
    "name": "header",
    "fields": [{"name": "name", "type": "bytes"}, {"name": "value", "type": ["null", "bytes"]}],
}
_OURS: list[dict[str, Any]] = [
    {"name": "nulls", "type": "int", "doc": "1: the id is null; 2: the data is null"},
    {"name": "topic", "type": "string"},
    {"name": "partition", "type": ["null", "int"]},
    {"name": "offset", "type": ["null", "long"]},
    {"name": "publish_time", "type": ["null", "long"], "doc": "microseconds since 1970"},
    {"name": "key", "type": ["null", "bytes"]},
    {"name": "headers", "type": {"type": "array", "items": _HEADER}},
    {"name": "checksum", "type": ["null", "long"]},
]
_RECORD = {"type": "record", "name": "com.syntio.dataphos.persistorrecord"}
_PLAIN = [field["name"] for field in _OURS if field["name"] not in {"nulls", "headers"}]
_SCHEMA = fastavro.parse_schema(_RECORD | {"fields": _THEIRS + _OURS})
_POSITION = re.compile(r"(\d{1,9})_(\d{1,18})", re.ASCII)


def encode(table: pa.Table) -> bytes:
    """See :mod:`transforms.formats`."""
    sink = io.BytesIO()
    fastavro.writer(
        sink,
        _SCHEMA,
        _records(table),
        codec=_CODEC,
        codec_compression_level=_LEVEL,
        sync_interval=_BLOCK,
        sync_marker=_sync_marker(table),
        metadata={_COUNT: str(len(table))},
    )
    return sink.getvalue()


def decode(data: bytes | memoryview | pa.Buffer) -> pa.Table:
    """See :mod:`transforms.formats`; also reads the files of Dataphos Persistor."""
    with damage("Avro", *_ERRORS):
        # Dataphos Persistor copies header values into strings unchecked, so some are not valid UTF-8.
        reader = fastavro.reader(io.BytesIO(data), handle_unicode_errors="surrogateescape")
        fields = [field["name"] for field in json.loads(reader.metadata["avro.schema"])["fields"]]
        records = list(reader)
        if fields == [field["name"] for field in _THEIRS]:
            return _their_table(records)
        if str(len(records)) != reader.metadata[_COUNT]:
            raise PermanentError("not a whole Avro file of messages (some are missing)")
        return _our_table(records)


def read_rows(file: LakeFile, rows: Rows) -> pa.Table:
    """See :mod:`transforms.formats`. Reads the whole file."""
    return take(decode(file.read()), rows)


def bounds(file: LakeFile) -> Bounds:
    """See :mod:`transforms.formats`. Reads the whole file."""
    return bounds_of_whole(file, decode)


def _records(table: pa.Table) -> list[dict[str, Any]]:
    ids, data = column(table, "id").to_pylist(), column(table, "data").to_pylist()
    names = ("ID", "Data", "Metadata", "nulls", "headers", *_PLAIN)
    columns = [
        [id or "" for id in ids],
        [value or b"" for value in data],
        [dict(each) for each in attributes(table).to_pylist()],
        [
            (id is None) * _ID_IS_NULL + (value is None) * _DATA_IS_NULL
            for id, value in zip(ids, data, strict=True)
        ],
        _headers(table),
        *(_plain(table, name).to_pylist() for name in _PLAIN),
    ]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _plain(table: pa.Table, name: str) -> pa.Array:
    array = column(table, name)
    return array.cast(pa.int64()) if name == "publish_time" else array


def _headers(table: pa.Table) -> list[list[dict[str, bytes | None]]]:
    head = headers(table)
    pairs = zip(head.names.array.to_pylist(), head.values.array.to_pylist(), strict=True)
    each = [{"name": name, "value": value} for name, value in pairs]
    bounds = head.bounds.tolist()
    return [each[start:end] for start, end in pairwise(bounds)]


def _sync_marker(table: pa.Table) -> bytes:
    """Sixteen bytes derived from the rows; a random marker would make equal rows yield different files."""
    identity = [column(table, name).to_pylist() for name in ("id", "checksum")]
    return hashlib.sha256(repr(identity).encode()).digest()[:16]


def _our_table(records: Sequence[dict[str, Any]]) -> pa.Table:
    flat = [header for record in records for header in record["headers"]]
    made = {name: pa.array([record[name] for record in records], _type(name)) for name in _PLAIN}
    made["id"] = pa.array([None if r["nulls"] & _ID_IS_NULL else r["ID"] for r in records], pa.string())
    made["data"] = pa.array([None if r["nulls"] & _DATA_IS_NULL else r["Data"] for r in records], pa.binary())
    made["headers"] = header_lists(
        [len(record["headers"]) for record in records],
        [header["name"] for header in flat],
        [header["value"] for header in flat],
    )
    return checked(pa.table([made[name] for name in FILE_SCHEMA.names], schema=FILE_SCHEMA))


def _type(name: str) -> pa.DataType:
    return FILE_SCHEMA.field(name).type


def _their_table(records: Sequence[dict[str, Any]]) -> pa.Table:
    positions = [_POSITION.fullmatch(record["ID"]) for record in records]
    flat = [pair for record in records for pair in record["Metadata"].items()]
    made = {
        "id": pa.array([record["ID"] for record in records], pa.string()),
        "topic": pa.repeat(pa.scalar(""), len(records)),
        # Their ids of Kafka messages are partition and offset.
        "partition": pa.array([match and int(match[1]) for match in positions], pa.int32()),
        "offset": pa.array([match and int(match[2]) for match in positions], pa.int64()),
        "data": pa.array([record["Data"] for record in records], pa.binary()),
        "headers": header_lists(
            [len(record["Metadata"]) for record in records],
            [name.encode("utf-8", "surrogateescape") for name, _ in flat],
            [value.encode("utf-8", "surrogateescape") for _, value in flat],
        ),
    }
    nulls = {name: pa.nulls(len(records), _type(name)) for name in ("publish_time", "key", "checksum")}
    return checked(pa.table([(made | nulls)[name] for name in FILE_SCHEMA.names], schema=FILE_SCHEMA))
