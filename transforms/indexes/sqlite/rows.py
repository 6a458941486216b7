"""Converts ``ENTRY_SCHEMA`` tables to SQLite rows and back, column by column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.indexes.sqlite.query import PAIR_MARK, VALUE_MARK
from transforms.model import ENTRY_SCHEMA

__all__ = ["NAMED", "rows_of", "table_of"]

NAMED = ("source", "topic", "location")
"""Columns stored as the number of a name, because few names occur in very many rows."""


def rows_of(entries: pa.Table, numbers: Mapping[str, int]) -> Iterable[tuple[Any, ...]]:
    """Rows to insert, in the order of the schema's columns."""
    return zip(*[_to_list(entries[name], name, numbers) for name in ENTRY_SCHEMA.names], strict=True)


def table_of(
    rows: Sequence[tuple[Any, ...]], columns: Sequence[str], name_of: Callable[[int], str]
) -> pa.Table:
    """Rows of ``columns`` as a table with the types of ``ENTRY_SCHEMA``."""
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    arrays = [_to_array(value, name, name_of) for value, name in zip(values, columns, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema([ENTRY_SCHEMA.field(name) for name in columns]))


def _to_list(column: pa.ChunkedArray, name: str, numbers: Mapping[str, int]) -> list[Any]:
    if name == "attributes":
        return pa.chunked_array([_encode(chunk) for chunk in column.chunks], pa.binary()).to_pylist()
    if name in NAMED:
        return [numbers[value] for value in column.to_pylist()]
    return (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()


def _to_array(values: Sequence[Any], name: str, name_of: Callable[[int], str]) -> pa.Array:
    if name == "attributes":
        return _decode(pa.array(values, pa.binary()))
    if name in NAMED:
        return pa.array([name_of(value) for value in values], pa.string())
    kind = ENTRY_SCHEMA.field(name).type
    return pa.array(values, pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)


def _encode(attributes: pa.MapArray) -> pa.Array:
    names, values = attributes.keys.cast(pa.binary()), attributes.items.cast(pa.binary())
    pairs = pc.binary_join_element_wise(names, values, VALUE_MARK)
    joined = pc.binary_join(pa.ListArray.from_arrays(attributes.offsets, pairs), PAIR_MARK)
    return pc.binary_join_element_wise(b"", joined, b"", PAIR_MARK)


def _decode(blobs: pa.Array) -> pa.MapArray:
    """Split at the marks: a name ends at a value mark, its value at the next pair mark."""
    data = np.frombuffer(blobs.buffers()[2] or b"", np.uint8)
    marks = np.flatnonzero(data >= VALUE_MARK[0])
    ends = marks - np.arange(len(marks))
    tokens = _strings(np.append(0, ends), data[data < VALUE_MARK[0]])
    names = np.flatnonzero(data[marks] == VALUE_MARK[0])
    row_ends = np.frombuffer(blobs.buffers()[1], np.int32)[: len(blobs) + 1]
    offsets = np.searchsorted(marks[names], row_ends).astype(np.int32)
    return pa.MapArray.from_arrays(pa.array(offsets), tokens.take(names), tokens.take(names + 1))


def _strings(offsets: np.ndarray[Any, Any], data: np.ndarray[Any, Any]) -> pa.Array:
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)
