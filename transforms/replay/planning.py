"""From the index to a plan: what is selected, split into lanes and cut into windows."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.indexes import Index
from transforms.lake import Lake
from transforms.replay.plans import LANES, WINDOW_SCHEMA, SourcePlan
from transforms.selection import Selection, sample_and_limit

__all__ = ["WINDOW_BYTES", "WINDOW_ROWS", "Survey", "lane_of", "survey"]

WINDOW_ROWS = 10_000
WINDOW_BYTES = 8 << 20
"""What is in memory at a time: a window that is sent and one that is read ahead."""

_COLUMNS = [
    "id", "source", "partition", "publish_time", "size", "traits", "checksum", "location", "position"
]  # fmt: skip
_ENCODED = "source", "location"
_NEW_FILES_KEPT = 65_536


@dataclass
class Survey:
    """What a selection holds, counted while it streams by in bounded memory.

    Attributes:
        lanes: messages by lane.
        traits: messages by the value of their traits.
        outside: messages whose file lies in no configured lake.
        outside_example: the location of one of them.
        highest_partition: the highest partition number, -1 where no message has one.
    """

    messages: int = 0
    requests: int = 0
    largest: int = 0
    lanes: dict[int, int] = field(default_factory=dict)
    sources: dict[str, SourcePlan] = field(default_factory=dict)
    traits: dict[int, int] = field(default_factory=dict)
    outside: int = 0
    outside_example: str = ""
    highest_partition: int = -1
    _files: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def files(self) -> int:
        """How many files hold the messages (64-bit hashes are counted, not names)."""
        self._files = [np.unique(np.concatenate(self._files))] if self._files else []
        return sum(map(len, self._files))

    def add(self, table: pa.Table, lakes: Sequence[Lake]) -> None:
        """Count the rows of one table of the stream."""
        self.messages += len(table)
        self.largest = max(self.largest, pc.max(table["size"]).as_py())
        self.highest_partition = max(self.highest_partition, _or(pc.max(table["partition"]).as_py(), -1))
        for counted in pc.value_counts(table["traits"]).to_pylist():
            self.traits[counted["values"]] = self.traits.get(counted["values"], 0) + counted["counts"]
        self._add_sources(table)
        self._add_files(table["location"], lakes)

    def _add_sources(self, table: pa.Table) -> None:
        plain = table.select(["source", "size"]).append_column("time", table["publish_time"].cast(pa.int64()))
        grouped = plain.group_by("source", use_threads=False).aggregate(
            [("size", "count"), ("size", "sum"), ("time", "min"), ("time", "max")]
        )
        for row in grouped.to_pylist():
            name = row["source"]
            new = SourcePlan(name, row["size_count"], row["size_sum"], row["time_min"], row["time_max"])
            self.sources[name] = _merged(self.sources[name], new) if name in self.sources else new

    def _add_files(self, locations: pa.ChunkedArray, lakes: Sequence[Lake]) -> None:
        counts = pc.value_counts(locations).to_pylist()
        for counted in counts:
            if all(lake.path(counted["values"]) is None for lake in lakes):
                self.outside += counted["counts"]
                self.outside_example = counted["values"]
        self._files.append(np.fromiter((hash(c["values"]) for c in counts), np.int64, len(counts)))
        if sum(map(len, self._files[1:])) > _NEW_FILES_KEPT:
            self.files()


def survey(
    index: Index,
    lakes: Sequence[Lake],
    selection: Selection,
    keep: Callable[[int, pa.RecordBatch], object],
    most: int | None = None,
) -> Survey:
    """Stream what is selected in replay order.

    Args:
        index: where the messages are found.
        lakes: the configured lakes.
        selection: which messages.
        keep: called with each lane's windows (``WINDOW_SCHEMA``) in their order.
        most: stop counting soon after so many messages.

    Raises:
        TransientError: the index is away.
    """
    found, cutters = Survey(), dict[int, _Cutter]()
    for table in sample_and_limit(index.select(selection, _COLUMNS), selection):
        found.add(table, lakes)
        for lane, rows in _by_lane(table):
            found.lanes[lane] = found.lanes.get(lane, 0) + len(rows)
            cutter = cutters.setdefault(lane, _Cutter())
            found.requests += _hand_on(lane, cutter.add(rows), keep)
        if most is not None and found.messages > most:
            return found
    for lane, cutter in cutters.items():
        found.requests += _hand_on(lane, cutter.rest(), keep)
    return found


def lane_of(source: str, partition: int | None) -> int:
    """The lane of a source partition, the same in every process."""
    return zlib.crc32(f"{source}/{partition}".encode()) % LANES


class _Cutter:
    """Collects the rows of one lane and cuts them into windows, between files where it can."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._rows = self._bytes = 0

    def add(self, rows: pa.Table) -> Iterator[pa.RecordBatch]:
        self._tables.append(rows)
        self._rows += len(rows)
        self._bytes += pc.sum(rows["size"]).as_py()
        # Twice a window, so that there is a place between files to cut at.
        if self._rows >= 2 * WINDOW_ROWS or self._bytes >= 2 * WINDOW_BYTES:
            yield from self._cut(keep_last=True)

    def rest(self) -> Iterator[pa.RecordBatch]:
        if self._rows:
            yield from self._cut(keep_last=False)

    def _cut(self, *, keep_last: bool) -> Iterator[pa.RecordBatch]:
        table = pa.concat_tables(self._tables).combine_chunks()
        bounds = _cuts(table["location"], table["size"].to_numpy())
        if keep_last:
            bounds = bounds[:-1]
        for start, end in itertools.pairwise(bounds):
            yield _window(table.slice(start, end - start))
        # A copy, or the slice would hold all that was cut off in memory.
        rest = table.take(pa.array(np.arange(bounds[-1], len(table))))
        self._tables, self._rows = [rest], len(rest)
        self._bytes = _or(pc.sum(rest["size"]).as_py(), 0)


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


def _by_lane(table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Runs of rows of one source partition; the stream is ordered, so they are few."""
    sources = pc.dictionary_encode(table["source"].combine_chunks())
    codes, numbers = sources.indices.to_numpy(), pc.fill_null(table["partition"], -1).to_numpy()
    bounds = np.flatnonzero((np.diff(codes) != 0) | (np.diff(numbers) != 0)) + 1
    for start, end in zip([0, *bounds], [*bounds, len(table)], strict=True):
        number = None if numbers[start] < 0 else int(numbers[start])
        lane = lane_of(sources.dictionary[int(codes[start])].as_py(), number)
        yield lane, table.slice(start, end - start).select(WINDOW_SCHEMA.names)


def _hand_on(
    lane: int, windows: Iterator[pa.RecordBatch], keep: Callable[[int, pa.RecordBatch], object]
) -> int:
    requests = 0
    for window in windows:
        requests += len(pc.unique(window["location"]))
        keep(lane, window)
    return requests


def _merged(one: SourcePlan, other: SourcePlan) -> SourcePlan:
    times = [t for t in (one.oldest_us, one.newest_us, other.oldest_us, other.newest_us) if t is not None]
    return SourcePlan(
        one.source,
        one.messages + other.messages,
        one.bytes + other.bytes,
        min(times, default=None),
        max(times, default=None),
    )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
