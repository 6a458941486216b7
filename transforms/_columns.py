"""Message columns as contiguous arrays, whatever the chunks and slices of a table."""

from __future__ import annotations

import importlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.model import HEADERS

__all__ = ["Headers", "Parts", "column", "headers", "overridden", "parts"]

UInts = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

_SAMPLE = 256
_INTERFACE = 1


@dataclass(frozen=True)
class Parts:
    """A column of byte strings.

    Attributes:
        array: binary, one contiguous array, nulls kept.
        lengths: bytes of each value, 0 where null.
        valid: False where null.
    """

    array: pa.Array
    lengths: UInts
    valid: Bools

    @cached_property
    def text(self) -> Bools:
        """Which values are valid UTF-8; null counts as valid."""
        try:
            self.array.cast(pa.string())
        except pa.ArrowInvalid:
            values = _filled(self.array).to_pylist()
            return np.fromiter(map(_is_utf8, values), np.bool_, len(values))
        return np.ones(len(self.array), np.bool_)

    def crcs(self) -> UInts:
        """CRC-32 of each value; null counts as the empty string."""
        values = _filled(self.array)
        if not _repeats(values):
            return _crcs(values)
        encoded = values.dictionary_encode()
        return _crcs(encoded.dictionary)[encoded.indices.to_numpy()]


@dataclass(frozen=True)
class Headers:
    """The headers of all rows, concatenated.

    Attributes:
        counts: headers of each row.
        bounds: ``bounds[i]:bounds[i + 1]`` are the headers of row i; one longer than the rows.
        names: of all headers; as bytes, because names at some brokers are not valid UTF-8.
        values: of all headers.
    """

    counts: UInts
    bounds: npt.NDArray[np.int64]
    names: Parts
    values: Parts

    @cached_property
    def overridden(self) -> Bools:
        """Which headers have a later one of the same name in the same row."""
        return overridden(self.names.array, self.rows())

    def rows(self) -> npt.NDArray[np.int64]:
        """The row of each header."""
        return np.repeat(np.arange(len(self.counts)), self.counts.astype(np.int64))

    def sums(self, per_header: UInts) -> UInts:
        """Sum of a value over the headers of each row, modulo 2**64."""
        totals = np.zeros(len(per_header) + 1, np.uint64)
        np.cumsum(per_header, out=totals[1:])
        return totals[self.bounds[1:]] - totals[self.bounds[:-1]]

    def any(self, per_header: Bools) -> Bools:
        """Whether any header of a row is marked."""
        if not per_header.any():
            return np.zeros(len(self.counts), np.bool_)
        return self.sums(per_header.astype(np.uint64)) > 0

    def only(self, keep: Bools, *, nulls: bool = True) -> pa.Array:
        """The column with these of the headers alone; without ``nulls``, null values become empty."""
        mask = pa.array(keep)
        names, values = self.names.array.filter(mask).cast(pa.string()), self.values.array.filter(mask)
        bounds = pa.array(np.concatenate([[0], np.cumsum(keep)])[self.bounds], pa.int32())
        kept = [names, values if nulls else _filled(values)]
        items = pa.StructArray.from_arrays(kept, fields=list(HEADERS.value_type))
        return pa.ListArray.from_arrays(bounds, items, type=HEADERS)


def column(messages: pa.Table, name: str) -> pa.Array:
    """A column as one contiguous array."""
    chunked = messages.column(name)
    return chunked.chunk(0) if chunked.num_chunks == 1 else chunked.combine_chunks()


def parts(array: pa.Array) -> Parts:
    """A binary or string array as :class:`Parts`."""
    binary = array.cast(pa.binary())
    lengths = pc.fill_null(pc.binary_length(binary), 0).to_numpy().astype(np.uint64)
    return Parts(binary, lengths, _mask(pc.is_valid(binary)))


def headers(messages: pa.Table) -> Headers:
    """The column ``headers``, flattened."""
    lists = column(messages, "headers")
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.uint64)
    bounds = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=bounds[1:])
    names, values = lists.flatten().flatten()
    return Headers(counts, bounds, parts(names), parts(values))


def overridden(names: pa.Array, rows: npt.NDArray[np.int64]) -> Bools:
    """Which headers, given by name and row, have a later one of the same name in the same row."""
    encoded = names.dictionary_encode()
    pairs = rows * len(encoded.dictionary) + encoded.indices.to_numpy()
    result = np.zeros(len(pairs), np.bool_)
    ordered = np.sort(pairs)
    if (ordered[1:] == ordered[:-1]).any():
        order = np.argsort(pairs, kind="stable")
        result[order[:-1]] = pairs[order[1:]] == pairs[order[:-1]]
    return result


def _crcs(values: pa.Array) -> UInts:
    if _EXTENSION is None:
        return np.fromiter(map(zlib.crc32, values.to_pylist()), np.uint64, len(values))
    result = np.empty(len(values), np.uint64)
    if len(values):
        _, ends, data = values.buffers()
        _EXTENSION.crcs(ends, data or b"", values.offset, result)
    return result


def _extension() -> ModuleType | None:
    """What computes checksums in C; None where it was not built, or from other sources."""
    try:
        found = importlib.import_module("transforms._crcs")
    except ImportError:
        return None
    return found if found.INTERFACE == _INTERFACE else None


_EXTENSION = _extension()


def _repeats(values: pa.Array) -> bool:
    """Whether the column has few distinct values, judged by its beginning; headers usually do."""
    sample = values.slice(0, _SAMPLE)
    return len(sample) == _SAMPLE and pc.count_distinct(sample).as_py() <= _SAMPLE // 4


def _is_utf8(value: bytes) -> bool:
    # Dropping invalid bytes and comparing is twice as fast as catching an exception.
    return value.isascii() or len(value.decode("utf-8", "ignore").encode()) == len(value)


def _filled(array: pa.Array) -> pa.Array:
    return pc.fill_null(array, b"") if array.null_count else array


def _mask(array: pa.Array) -> Bools:
    return array.to_numpy(zero_copy_only=False)
