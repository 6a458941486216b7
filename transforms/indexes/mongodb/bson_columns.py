"""Converts between BSON documents and Arrow columns without a Python object per field.

https://bsonspec.org/spec.html. An element is its type, its name and its value; if a column is null, the
element is null here and missing in the document.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from bson.raw_bson import RawBSONDocument

__all__ = ["columns", "date", "document", "documents", "false", "int32", "int64", "string"]

_Positions = npt.NDArray[np.int64]

_STRING, _DOCUMENT, _BOOLEAN, _DATE, _INT32, _INT64 = b"\x02", b"\x03", b"\x08", b"\x09", b"\x10", b"\x12"
_NUMBERS = {_DATE: np.int64, _INT32: np.int32, _INT64: np.int64}


def string(name: bytes | pa.Array, values: pa.Array) -> pa.Array:
    """An element of a string or binary column with UTF-8; ``name`` may differ by row."""
    lengths = _sizes(pc.binary_length(values.cast(pa.binary())), 1)
    return _join(_STRING, name, b"\0", lengths, values.cast(pa.binary()), b"\0")


def int32(name: bytes, values: pa.Array) -> pa.Array:
    """An element of 32 bits."""
    return _number(_INT32, name, values)


def int64(name: bytes, values: pa.Array) -> pa.Array:
    """An element of 64 bits."""
    return _number(_INT64, name, values)


def date(name: bytes, microseconds: pa.Array) -> pa.Array:
    """A time, with its microseconds cut to milliseconds."""
    whole = pc.fill_null(microseconds, 0).to_numpy(zero_copy_only=False) // 1000
    return _number(_DATE, name, pa.array(whole, mask=_is_null(microseconds)))


def false(name: bytes) -> bytes:
    """The same element in every row."""
    return _BOOLEAN + name + b"\0\0"


def document(name: bytes, elements: pa.ListArray) -> pa.Array:
    """An embedded document for each list of elements."""
    return _join(_DOCUMENT, name, b"\0", _framed(pc.binary_join(elements, b"")))


def documents(elements: Sequence[pa.Array | bytes]) -> Iterator[RawBSONDocument]:
    """The documents with these elements, given by column."""
    joined = pc.binary_join_element_wise(*elements, b"", null_handling="replace", null_replacement=b"")
    return map(RawBSONDocument, _framed(joined).to_pylist())


def columns(batch: bytes) -> dict[str, pa.Array] | None:
    """The fields of concatenated documents that all have the same fields in the same order.

    Strings become binary, integers and dates int64. None if the documents differ or have fields of other
    types; a decoder of single documents must read those.
    """
    data = np.frombuffer(batch, np.uint8)
    at = _starts(batch) + 4
    found: dict[str, pa.Array] = {}
    while batch[at[0]]:
        head = batch[at[0] : batch.index(0, at[0] + 1) + 1]
        if (
            head[:1] not in _READERS
            or not (_gather(data, at, len(head)) == np.frombuffer(head, np.uint8)).all()
        ):
            return None
        found[head[1:-1].decode()], at = _READERS[head[:1]](data, at + len(head))
    return None if data[at].any() else found


def _starts(batch: bytes) -> _Positions:
    starts, at = [], 0
    while at < len(batch):
        starts.append(at)
        at += int.from_bytes(batch[at : at + 4], "little")
    return np.array(starts, np.int64)


def _gather(data: npt.NDArray[np.uint8], at: _Positions, size: int) -> npt.NDArray[np.uint8]:
    # If documents differ in length, a comparison may reach past the end of the last one.
    return data.take(at[:, None] + np.arange(size), mode="clip")


def _read_string(data: npt.NDArray[np.uint8], at: _Positions) -> tuple[pa.Array, _Positions]:
    sizes = _gather(data, at, 4).view("<i4")[:, 0].astype(np.int64)
    ends = np.cumsum(sizes - 1)
    offsets = np.append(0, ends)
    content = data[np.repeat(at + 4 - offsets[:-1], sizes - 1) + np.arange(ends[-1])]
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.binary(), len(at), buffers), at + 4 + sizes


def _read_int32(data: npt.NDArray[np.uint8], at: _Positions) -> tuple[pa.Array, _Positions]:
    return pa.array(_gather(data, at, 4).view("<i4")[:, 0].astype(np.int64)), at + 4


def _read_int64(data: npt.NDArray[np.uint8], at: _Positions) -> tuple[pa.Array, _Positions]:
    return pa.array(_gather(data, at, 8).view("<i8")[:, 0]), at + 8


_READERS = {_STRING: _read_string, _DATE: _read_int64, _INT32: _read_int32, _INT64: _read_int64}


def _number(kind: bytes, name: bytes, values: pa.Array) -> pa.Array:
    numbers = pc.fill_null(values, 0).to_numpy(zero_copy_only=False).astype(_NUMBERS[kind], copy=False)
    elements = _join(kind, name, b"\0", _fixed(numbers))
    return pc.if_else(pc.is_valid(values), elements, None) if values.null_count else elements


def _framed(content: pa.Array) -> pa.Array:
    return _join(_sizes(pc.binary_length(content), 5), content, b"\0")


def _sizes(lengths: pa.Array, more: int) -> pa.Array:
    return _fixed(pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False).astype(np.int32) + np.int32(more))


def _fixed(numbers: np.ndarray) -> pa.Array:
    little = np.ascontiguousarray(numbers, dtype=numbers.dtype.newbyteorder("<"))
    kind = pa.binary(little.itemsize)
    return pa.Array.from_buffers(kind, len(little), [None, pa.py_buffer(little)]).cast(pa.binary())


def _join(*parts: pa.Array | bytes) -> pa.Array:
    return pc.binary_join_element_wise(*parts, b"")


def _is_null(values: pa.Array) -> np.ndarray:
    return pc.is_null(values).to_numpy(zero_copy_only=False)
