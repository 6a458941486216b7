"""Sorts the rows of a plan by publish time; they come one partition after another."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms._columns import column
from transforms.replay.plans import WINDOW_SCHEMA

__all__ = ["BLOCK", "TimeOrder"]

Ints = npt.NDArray[np.int64]

BLOCK = 10_000
"""Rows of a partition that stay together where a slice holds more: it is read from few files."""
_BLOCKS = 1 << 18
_LONG_US = 500_000
_RUN_ROWS = 200_000
"""Rows that are sorted in memory; more are kept in a temporary file, about 40 bytes a row."""
_BATCH_ROWS = 2_000
"""Rows of each run that are in memory while runs are merged."""
_GATHERED = 10_000
_MEMORY = 1 << 20
"""Bytes of runs before there is a file at all."""
_NO_PARTITION = -1
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
_SCHEMA = pa.schema(
    [
        *(f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f for f in WINDOW_SCHEMA),
        pa.field("lane", pa.int64()),
        pa.field("order", pa.int64()),
    ]
)


@dataclass
class _Track:
    """How far a source partition is.

    Attributes:
        high: its latest publish time so far, in µs.
        cell: the part of the time that it lies in.
        rows: rows of the partition in this part so far.
    """

    high: int = np.iinfo(np.int64).min
    cell: int | None = None
    rows: int = 0


@dataclass
class TimeOrder:
    """Rows by steps of publish time; within one, blocks of each partition in turn.

    So a partition is never more than a step ahead of another in the sorted rows. Its own order stays:
    a message that is older than one before it counts as published together with that one. Bounded memory:
    large plans are sorted in runs on disk. Use as a context, which deletes them.

    Attributes:
        step_us: length of a step, in µs.
    """

    step_us: int
    _tracks: dict[tuple[str, int], _Track] = field(default_factory=dict)
    _tables: list[pa.Table] = field(default_factory=list)
    _rows: int = 0
    _runs: list[list[tuple[int, int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Prepare for the first rows."""
        # A short step holds few rows, and leaves no room for the number of a block.
        self._blocks = _BLOCKS if self.step_us >= _LONG_US else 1
        self._file = tempfile.SpooledTemporaryFile(_MEMORY)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> TimeOrder:
        """Ready for rows."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Delete the temporary file."""
        self._file.close()

    def stamp(self, table: pa.Table) -> pa.Table:
        """With the column ``order``; a partition's rows must come in their own order."""
        times = pc.fill_null(table["publish_time"].cast(pa.int64()), np.iinfo(np.int64).min).to_numpy()
        order = np.empty(len(table), np.int64)
        for key, rows in _partitions(table):
            order[rows] = self._order(self._tracks.setdefault(key, _Track()), times[rows])
        return table.append_column("order", pa.array(order))

    def add(self, lane: int, rows: pa.Table) -> None:
        """Append stamped rows of a lane. Raises ``OSError`` where the temporary file cannot be written."""
        lanes = pa.array(np.full(len(rows), lane, np.int64))
        self._tables.append(rows.append_column("lane", lanes).select(_SCHEMA.names).cast(_SCHEMA))
        self._rows += len(rows)
        if self._rows >= _RUN_ROWS:
            self._spool()

    def sorted(self) -> Iterator[tuple[Ints, pa.Table]]:
        """All rows in order (the columns of ``WINDOW_SCHEMA``), some at a time, with the lane of each."""
        rows = self._merged() if self._runs else iter([self._sorted()] if self._tables else [])
        for table in rows:
            yield table["lane"].to_numpy(), table.select(WINDOW_SCHEMA.names)

    def _order(self, track: _Track, times: Ints) -> Ints:
        highs = np.maximum.accumulate(np.maximum(times, track.high))
        cells = highs // self.step_us
        first = np.concatenate([[0], np.flatnonzero(np.diff(cells)) + 1])
        begun = track.rows if cells[0] == track.cell else 0
        sizes = np.diff([*first, len(cells)])
        numbers = np.arange(len(cells)) - np.repeat(first, sizes)
        numbers[: sizes[0]] += begun
        track.high, track.cell, track.rows = int(highs[-1]), int(cells[-1]), int(numbers[-1]) + 1
        ordered: Ints = cells * self._blocks + np.minimum(numbers // BLOCK, self._blocks - 1)
        return ordered

    def _sorted(self) -> pa.Table:
        table = pa.concat_tables(self._tables).combine_chunks()
        self._tables, self._rows = [], 0
        order = np.argsort(table["order"].to_numpy(), kind="stable")
        return table.take(pa.array(order))

    def _spool(self) -> None:
        run = []
        for batch in self._sorted().combine_chunks().to_batches(_BATCH_ROWS):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, _SCHEMA, options=_COMPRESSED) as writer:
                writer.write_batch(batch)
            data = sink.getvalue()
            run.append((self._file.tell(), len(data)))
            self._file.write(data)
        self._runs.append(run)

    def _merged(self) -> Iterator[pa.Table]:
        if self._tables:
            self._spool()
        gathered: list[pa.Table] = []
        for piece in self._pieces():
            gathered.append(piece)
            if sum(map(len, gathered)) >= _GATHERED:
                yield pa.concat_tables(gathered)
                gathered = []
        if gathered:
            yield pa.concat_tables(gathered)

    def _pieces(self) -> Iterator[pa.Table]:
        """Merge the runs: of equal rows, those of the earlier run first."""
        heads: list[tuple[int, int, pa.Table, Iterator[pa.Table]]] = []
        for number, run in enumerate(self._runs):
            batches = self._read(run)
            _push(heads, number, next(batches), batches)
        while heads:
            _, number, head, batches = heapq.heappop(heads)
            end = len(head)
            if heads:
                limit, other = heads[0][:2]
                behind: Ints = head["order"].to_numpy() - (limit if number < other else limit - 1)
                end = int(np.searchsorted(behind, 1))
            yield head.slice(0, end)
            _push(heads, number, head.slice(end), batches)

    def _read(self, run: list[tuple[int, int]]) -> Iterator[pa.Table]:
        for place, size in run:
            self._file.seek(place)
            yield pa.ipc.open_stream(pa.py_buffer(self._file.read(size))).read_all()


def _push(
    heads: list[tuple[int, int, pa.Table, Iterator[pa.Table]]],
    number: int,
    rest: pa.Table | None,
    batches: Iterator[pa.Table],
) -> None:
    head = rest or next(batches, None)
    if head is not None:
        heapq.heappush(heads, (head["order"][0].as_py(), number, head, batches))


def _partitions(table: pa.Table) -> Iterator[tuple[tuple[str, int], Ints | slice]]:
    """Each source partition of a table with its rows."""
    sources = pc.dictionary_encode(column(table, "source"))
    numbers = pc.fill_null(column(table, "partition").cast(pa.int64()), _NO_PARTITION).to_numpy()
    codes = (sources.indices.to_numpy().astype(np.int64) << 32) + (numbers & 0xFFFFFFFF)
    if (codes == codes[0]).all():  # the usual case
        yield (sources.dictionary[0].as_py(), int(numbers[0])), slice(None)
        return
    order = np.argsort(codes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        first = int(rows[0])
        yield (sources.dictionary[int(sources.indices[first].as_py())].as_py(), int(numbers[first])), rows
