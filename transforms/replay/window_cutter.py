"""Cuts the rows of a lane into windows, between files if possible."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.replay.plans import WINDOW_SCHEMA

__all__ = ["WINDOW_BYTES", "WINDOW_ROWS", "Cutter"]

WINDOW_ROWS = 10_000
WINDOW_BYTES = 8 << 20
"""Memory use: one window being sent and one being read ahead."""

_ENCODED = "source", "location"


class Cutter:
    """Collects the rows of one lane (the columns of ``WINDOW_SCHEMA``) and cuts them into windows.

    Attributes:
        rows: how many wait for a full window.
    """

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self.rows = self._bytes = 0

    def add(self, rows: pa.Table) -> Iterator[pa.RecordBatch]:
        """Append rows; yields full windows."""
        self._tables.append(rows)
        self.rows += len(rows)
        self._bytes += pc.sum(rows["size"]).as_py()
        # Twice a window, so that there is a file boundary to cut at.
        if self.rows >= 2 * WINDOW_ROWS or self._bytes >= 2 * WINDOW_BYTES:
            yield from self._cut(keep_last=True)

    def rest(self) -> Iterator[pa.RecordBatch]:
        """The windows of the remaining rows."""
        if self.rows:
            yield from self._cut(keep_last=False)

    def _cut(self, *, keep_last: bool) -> Iterator[pa.RecordBatch]:
        table = pa.concat_tables(self._tables).combine_chunks()
        bounds = _cuts(table["location"], table["size"].to_numpy())
        if keep_last:
            bounds = bounds[:-1]
        for start, end in itertools.pairwise(bounds):
            yield _window(table.slice(start, end - start))
        # A copy, because a slice would keep the whole table in memory.
        rest = table.take(pa.array(np.arange(bounds[-1], len(table))))
        self._tables, self.rows = [rest], len(rest)
        self._bytes = pc.sum(rest["size"]).as_py() or 0


def _cuts(locations: pa.ChunkedArray, sizes: npt.NDArray[np.int64]) -> list[int]:
    codes = pc.dictionary_encode(locations.combine_chunks()).indices.to_numpy()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1])  # of each file's run of rows
    totals = np.cumsum(sizes)
    bounds = [0]
    while (first := bounds[-1]) < len(sizes):
        before = totals[first - 1] if first else 0
        end = int(np.searchsorted(totals, before + WINDOW_BYTES, side="right"))
        end = min(max(end, first + 1), first + WINDOW_ROWS, len(sizes))
        if end < len(sizes):
            run = int(starts[np.searchsorted(starts, end, side="right") - 1])
            end = run if run > first else end
        bounds.append(end)
    return bounds


def _window(rows: pa.Table) -> pa.RecordBatch:
    columns = {name: rows[name].combine_chunks() for name in WINDOW_SCHEMA.names}
    columns |= {name: pc.dictionary_encode(columns[name]) for name in _ENCODED}
    return pa.record_batch([columns[name] for name in WINDOW_SCHEMA.names], schema=WINDOW_SCHEMA)
