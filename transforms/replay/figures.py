"""The figures of a plan, counted in bounded memory while its rows stream by."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["SAMPLES", "Figures", "Histogram", "Sample", "SourcePlan", "Times", "key_to_json"]

SAMPLES = 10
_MOST_BUCKETS = 100
_BUCKETS_KEPT = 4096
_NEW_FILES_KEPT = 65_536
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
# Each divides the next, so that buckets of one width merge into the next.
_STEPS = [
    1_000, 10_000, 100_000, _SECOND, 5 * _SECOND, 15 * _SECOND, 30 * _SECOND,
    *(n * 60 * _SECOND for n in (1, 5, 15, 30, 60, 180, 360, 720)),
    _DAY, 7 * _DAY, 28 * _DAY, 364 * _DAY,
]  # fmt: skip
_BETWEEN = [
    2_000, 5_000, 20_000, 50_000, 200_000, 500_000, *(n * _SECOND for n in (2, 10, 120, 600, 7200)),
    2 * _DAY, 14 * _DAY, 91 * _DAY, 182 * _DAY,
]  # fmt: skip


@dataclass(frozen=True)
class SourcePlan:
    """The messages of one source in a plan; times in microseconds since 1970."""

    source: str
    messages: int
    bytes: int
    oldest_us: int | None
    newest_us: int | None


@dataclass(frozen=True)
class Histogram:
    """Messages by publish time, in at most 100 buckets of a round width.

    Attributes:
        start_us: start of the first bucket, microseconds since 1970.
        width_us: of each bucket, microseconds.
        messages: of each bucket; messages without a publish time are left out.
    """

    start_us: int
    width_us: int
    messages: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """One message of a plan.

    Attributes:
        key: as text, or ``{"base64": …}`` if it is not UTF-8; None if there is none or it is unknown.
    """

    id: str
    source: str
    publish_time_us: int | None
    size: int
    key: str | Mapping[str, str] | None = None


class Times:
    """Messages by publish time: fine buckets, coarser ones as the span grows."""

    def __init__(self) -> None:
        self._widths = _steps()
        self._width = next(self._widths)
        self._counts: dict[int, int] = {}

    def add(self, times: npt.NDArray[np.int64]) -> None:
        """Count times, microseconds since 1970."""
        if not len(times):
            return
        low, high = int(times.min()) // self._width, int(times.max()) // self._width
        self._widen(min([low, *self._counts]), max([high, *self._counts]))
        buckets, counts = np.unique(times // self._width, return_counts=True)
        for bucket, number in zip(buckets.tolist(), counts.tolist(), strict=True):
            self._counts[bucket] = self._counts.get(bucket, 0) + number

    def histogram(self) -> Histogram | None:
        """At most 100 buckets; None if nothing was counted."""
        if not self._counts:
            return None
        width = next(w for w in _nice(self._width) if len(self._span(w)) <= _MOST_BUCKETS)
        span, factor = self._span(width), width // self._width
        messages = [0] * len(span)
        for bucket, number in self._counts.items():
            messages[bucket // factor - span.start] += number
        return Histogram(span.start * width, width, tuple(messages))

    def _span(self, width: int) -> range:
        factor = width // self._width
        return range(min(self._counts) // factor, max(self._counts) // factor + 1)

    def _widen(self, low: int, high: int) -> None:
        """Take the first sufficient width; ``low`` and ``high`` are buckets of the present one."""
        start, old = self._width, self._counts
        while high // (self._width // start) - low // (self._width // start) >= _BUCKETS_KEPT:
            self._width = next(self._widths)
        if (factor := self._width // start) > 1:
            self._counts = {}
            for bucket, number in old.items():
                self._counts[bucket // factor] = self._counts.get(bucket // factor, 0) + number


@dataclass
class Figures:
    """Counts of rows that have the columns of ``WINDOW_SCHEMA``."""

    messages: int = 0
    largest: int = 0
    sources: dict[str, SourcePlan] = field(default_factory=dict)
    times: Times = field(default_factory=Times)
    _files: list[npt.NDArray[np.int64]] = field(default_factory=list)
    _samples: list[dict[str, Any]] = field(default_factory=list)
    _stride: int = 1

    def add(self, table: pa.Table) -> None:
        """Count the rows of one table of the stream."""
        if not len(table):
            return
        self._add_samples(table)
        self.messages += len(table)
        self.largest = max(self.largest, pc.max(table["size"]).as_py())
        times = table["publish_time"].cast(pa.int64())
        self.times.add(times.drop_null().to_numpy())
        self._add_sources(table, times)
        found = pc.unique(table["location"])
        self._files.append(np.fromiter(map(hash, found.to_pylist()), np.int64, len(found)))
        if sum(map(len, self._files[1:])) > _NEW_FILES_KEPT:
            self._unite_files()

    def counted(self) -> dict[str, Any]:
        """The counted fields of a plan, by name."""
        sources = tuple(self.sources.values())
        self._unite_files()
        return {
            "messages": self.messages,
            "bytes": sum(source.bytes for source in sources),
            "files": sum(map(len, self._files)),
            "largest": self.largest,
            "oldest_us": min((s.oldest_us for s in sources if s.oldest_us is not None), default=None),
            "newest_us": max((s.newest_us for s in sources if s.newest_us is not None), default=None),
            "sources": sources,
            "histogram": self.times.histogram(),
            "samples": tuple(self._chosen()),
        }

    def _unite_files(self) -> None:
        """Count 64-bit hashes, not names."""
        self._files = [np.unique(np.concatenate(self._files))] if self._files else []

    def _add_sources(self, table: pa.Table, times: pa.ChunkedArray) -> None:
        columns = {"source": table["source"], "size": table["size"], "time": times}
        grouped = pa.table(columns).group_by("source", use_threads=False)
        wanted = [("size", "count"), ("size", "sum"), ("time", "min"), ("time", "max")]
        for row in grouped.aggregate(wanted).to_pylist():
            name = row["source"]
            new = SourcePlan(name, row["size_count"], row["size_sum"], row["time_min"], row["time_max"])
            self.sources[name] = _merged(self.sources[name], new) if name in self.sources else new

    def _add_samples(self, table: pa.Table) -> None:
        """Every n-th row of the stream, with n doubling so that few are kept."""
        first = -self.messages % self._stride
        rows = table.select(["id", "source", "publish_time", "size"]).take(
            pa.array(np.arange(first, len(table), self._stride))
        )
        while len(self._samples) + len(rows) > 8 * SAMPLES:
            skipped = len(self._samples) % 2
            self._samples = self._samples[::2]
            rows = rows.take(pa.array(np.arange(skipped, len(rows), 2)))
            self._stride *= 2
        times = rows["publish_time"].cast(pa.int64()).to_pylist()
        plain = rows.drop_columns(["publish_time"]).to_pylist()
        self._samples += [{**row, "publish_time_us": time} for row, time in zip(plain, times, strict=True)]

    def _chosen(self) -> Iterator[Sample]:
        spread = np.linspace(0, len(self._samples) - 1, min(SAMPLES, len(self._samples)))
        return (Sample(**self._samples[place]) for place in spread.round().astype(int).tolist())


def _steps() -> Iterator[int]:
    yield from _STEPS
    yield from (_STEPS[-1] * 10**power for power in count(1))


def _nice(least: int) -> Iterator[int]:
    """Round widths that are multiples of one of the steps, in ascending order."""
    widths = sorted(_STEPS + _BETWEEN)
    yield from (width for width in widths if width >= least and width % least == 0)
    yield from (widths[-1] * 10**power for power in count(1) if widths[-1] * 10**power >= least)


def key_to_json(key: bytes | None) -> str | dict[str, str] | None:
    """A key in the form of :class:`Sample`."""
    if key is None:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(key).decode()}


def _merged(one: SourcePlan, other: SourcePlan) -> SourcePlan:
    times = [t for t in (one.oldest_us, one.newest_us, other.oldest_us, other.newest_us) if t is not None]
    return SourcePlan(
        one.source,
        one.messages + other.messages,
        one.bytes + other.bytes,
        min(times, default=None),
        max(times, default=None),
    )
