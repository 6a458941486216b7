"""Shared by the formats: damage becomes a ``PermanentError``, rows are taken by position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms._columns import column
from transforms.errors import PermanentError
from transforms.lake import LakeFile
from transforms.model import FILE_SCHEMA

__all__ = [
    "Bounds",
    "bounds_of",
    "bounds_of_whole",
    "check_rows",
    "checked",
    "damage",
    "header_lists",
    "take",
]

Rows = npt.NDArray[np.int64]

# Decoding a file takes many times its size, and each thread's part of the heap keeps much of that.
_DECODING = ThreadPoolExecutor(2)


@dataclass(frozen=True)
class Bounds:
    """The bounds of a file, without its messages.

    Attributes:
        rows: how many messages.
        newest: the latest publish time, µs since 1970; None unless every message has one.
        id: the lowest id; None unless every message has one.
        partition: the lowest partition; None unless every message has one.
        offset: the lowest offset; None unless every message has one.
    """

    rows: int
    newest: int | None = None
    id: str | None = None
    partition: int | None = None
    offset: int | None = None


def bounds_of(table: pa.Table) -> Bounds:
    """The bounds of a decoded file."""
    times = column(table, "publish_time").cast(pa.int64())
    lowest = {name: _least(column(table, name)) for name in ("id", "partition", "offset")}
    return Bounds(len(table), None if times.null_count else pc.max(times).as_py(), **lowest)


def bounds_of_whole(file: LakeFile, decode: Callable[[memoryview], pa.Table]) -> Bounds:
    """The bounds of a file that must be read completely; raises like ``read_rows``."""
    return _DECODING.submit(lambda: bounds_of(decode(file.read()))).result()


def _least(values: pa.Array) -> Any:
    return None if values.null_count else pc.min(values).as_py()


@contextmanager
def damage(kind: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn a library's errors about data of another format into a ``PermanentError``.

    Args:
        kind: the format, for the message.
        errors: the library's errors besides Arrow's own.
    """
    try:
        yield
    except (pa.ArrowException, *errors) as error:
        # The text may quote the data, so only the kind of error is shown.
        raise PermanentError(f"not a whole {kind} file of messages ({type(error).__name__})") from error


def checked(table: pa.Table) -> pa.Table:
    """A validated table assembled from a file."""
    table.validate()
    return table


def take(table: pa.Table, rows: Rows) -> pa.Table:
    """Rows by position, strictly ascending. Raises ``PermanentError`` for one after the last."""
    check_rows(rows, len(table))
    return table if len(rows) == len(table) else table.take(pa.array(rows))


def check_rows(rows: Rows, count: int) -> None:
    """Raise ``PermanentError`` if a position is after the last row."""
    if len(rows) and (rows[-1] >= count or rows[0] < 0):
        raise PermanentError(f"row {rows[-1]} was requested, but the file has {count}")


def header_lists(
    counts: Sequence[int], names: Sequence[bytes | None], values: Sequence[bytes | None]
) -> pa.Array:
    """The column ``headers`` from the concatenated headers of all rows.

    Names are bytes, so they are kept even if they are not valid UTF-8.
    """
    kind = FILE_SCHEMA.field("headers").type
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    items = pa.StructArray.from_arrays(
        [pa.array(names, pa.binary()).view(pa.string()), pa.array(values, pa.binary())],
        fields=list(kind.value_type),
    )
    return pa.ListArray.from_arrays(pa.array(offsets), items, type=kind)
