"""JSON Lines: one message per line, uncompressed, for people and line tools.

Bytes that are valid UTF-8 are strings under ``key``, ``data``, ``name`` and ``value``; others are base64
under the same name with the suffix ``_base64``. The last line has ``"last": true``: without it a file cut
at the end of a line would look complete. A file of no messages is one empty line.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from transforms._columns import Parts, column, headers, parts
from transforms.errors import PermanentError
from transforms.formats._common import Bounds, Rows, bounds_of_whole, checked, damage, header_lists, take
from transforms.lake import LakeFile
from transforms.model import FILE_SCHEMA

__all__ = ["bounds", "decode", "encode", "read_rows"]

_ERRORS = (ValueError, TypeError, KeyError, AttributeError, OverflowError)
_YEAR_0, _YEAR_10000 = -62_167_219_200_000_000, 253_402_300_800_000_000
_LAST = b'"last":true}\n'
_PLAIN = ("id", "topic", "partition", "offset")


def encode(table: pa.Table) -> bytes:
    """See :mod:`transforms.formats`."""
    columns = [column(table, name).to_pylist() for name in _PLAIN]
    columns.append(_times(column(table, "publish_time")))
    binary = [_texts(name, parts(column(table, name))) for name in ("key", "data")]
    sums = column(table, "checksum").to_pylist()
    lines = [
        orjson.dumps(
            dict(zip((*_PLAIN, "publish_time"), plain, strict=True))
            | key
            | data
            | {"headers": heads, "checksum": checksum},
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for *plain, key, data, heads, checksum in zip(*columns, *binary, _headers(table), sums, strict=True)
    ]
    if not lines:
        return b"\n"
    lines[-1] = lines[-1][:-2] + b"," + _LAST
    return b"".join(lines)


def decode(data: bytes | memoryview | pa.Buffer) -> pa.Table:
    """See :mod:`transforms.formats`."""
    raw = bytes(data)
    if raw == b"\n":
        return FILE_SCHEMA.empty_table()
    if not raw.endswith(_LAST):
        raise PermanentError("not a whole JSON Lines file of messages (its last line is missing)")
    with damage("JSON Lines", *_ERRORS):
        return _table([orjson.loads(line) for line in raw[:-1].split(b"\n")])


def read_rows(file: LakeFile, rows: Rows) -> pa.Table:
    """See :mod:`transforms.formats`. Reads the whole file."""
    return take(decode(file.read()), rows)


def bounds(file: LakeFile) -> Bounds:
    """See :mod:`transforms.formats`. Reads the whole file."""
    return bounds_of_whole(file, decode)


def _texts(name: str, values: Parts) -> list[dict[str, str | None]]:
    """The JSON name and value of each row."""
    text = values.text
    if text.all():
        return [{name: value} for value in values.array.cast(pa.string()).to_pylist()]
    encoded = name + "_base64"
    return [
        {name: value if value is None else value.decode()} if plain else {encoded: b64encode(value).decode()}
        for value, plain in zip(values.array.to_pylist(), text.tolist(), strict=True)
    ]


def _headers(table: pa.Table) -> Iterator[list[dict[str, str | None]]]:
    head = headers(table)
    names, values = _texts("name", head.names), _texts("value", head.values)
    each = [name | value for name, value in zip(names, values, strict=True)]
    bounds = head.bounds.tolist()
    return (each[start:end] for start, end in pairwise(bounds))


def _times(times: pa.Array) -> list[str | int | None]:
    """ISO 8601 within the years that Arrow can format, microseconds since 1970 outside of them."""
    numbers = times.cast(pa.int64())
    usual = pc.and_(pc.greater_equal(numbers, _YEAR_0), pc.less(numbers, _YEAR_10000))
    inside = pc.if_else(usual, numbers, None).cast(times.type).cast(pa.string())
    texts = pc.binary_replace_slice(inside, 10, 11, "T").to_pylist()
    if pc.all(usual, min_count=0).as_py():
        return texts
    return [number if text is None else text for text, number in zip(texts, numbers.to_pylist(), strict=True)]


def _table(lines: Sequence[dict[str, Any]]) -> pa.Table:
    heads = [line["headers"] for line in lines]
    flat = [head for each in heads for head in each]
    columns = [pa.array([line[name] for line in lines], FILE_SCHEMA.field(name).type) for name in _PLAIN]
    columns.append(_parsed_times([line["publish_time"] for line in lines]))
    columns += [pa.array(_bytes(name, lines), pa.binary()) for name in ("key", "data")]
    columns.append(header_lists([len(each) for each in heads], _bytes("name", flat), _bytes("value", flat)))
    columns.append(pa.array([line["checksum"] for line in lines], pa.int64()))
    return checked(pa.table(columns, schema=FILE_SCHEMA))


def _parsed_times(values: Sequence[str | int | None]) -> pa.Array:
    kind = FILE_SCHEMA.field("publish_time").type
    texts = pa.array([value if isinstance(value, str) else None for value in values], pa.string())
    numbers = pa.array([None if isinstance(value, str) else value for value in values], pa.int64())
    return pc.coalesce(texts.cast(kind), numbers.cast(kind))


def _bytes(name: str, objects: Iterable[dict[str, Any]]) -> list[bytes | None]:
    encoded = name + "_base64"
    return [
        _encoded(each[name]) if name in each else b64decode(each[encoded], validate=True) for each in objects
    ]


def _encoded(value: str | None) -> bytes | None:
    return None if value is None else value.encode()
