"""Streams a selection from the index, divides it into topics and lanes and cuts it into windows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.indexes import Index
from transforms.lake import Lake
from transforms.model import LATEST_US
from transforms.reading.claims import partitions
from transforms.replay.figures import Figures
from transforms.replay.oldest import selected
from transforms.replay.options import Options
from transforms.replay.plans import COMMIT_MESSAGES, LANES, WINDOW_SCHEMA
from transforms.replay.restoring import described
from transforms.replay.routing import Router
from transforms.replay.time_order import TimeOrder
from transforms.replay.window_cutter import Cutter
from transforms.selection import Selection

__all__ = ["Survey", "TopicSurvey", "survey"]

_SOURCE = ["source", "incarnation"]
_ALWAYS = {*WINDOW_SCHEMA.names, "partition", "traits", "incarnation"}
_SECOND = 1_000_000
_ROWS_WAITING = 400_000
"""Maximum rows of all lanes that wait for a full window; with many topics, the fullest is cut early."""


@dataclass
class TopicSurvey:
    """The messages for one topic.

    Attributes:
        traits: messages by the value of their traits.
        highest_partition: the highest partition number, -1 if no message has one.
        oldest_us: earliest publish time, microseconds since 1970.
        newest_us: latest publish time.
        around_1970: messages by publish time in microseconds, of those within a second of 1970.
        beyond: messages whose publish time is the latest that the lake keeps, and may have been later.
        sources: sources and incarnations of the messages.
        source_partitions: how many partitions these had, 0 if unknown.
        messages: how many there are.
        bytes: their sizes together.
    """

    traits: dict[int, int] = field(default_factory=dict)
    largest: int = 0
    highest_partition: int = -1
    oldest_us: int | None = None
    newest_us: int | None = None
    around_1970: dict[int, int] = field(default_factory=dict)
    beyond: int = 0
    sources: set[tuple[str, int]] = field(default_factory=set)
    source_partitions: int = 0
    messages: int = 0
    bytes: int = 0

    def add(self, table: pa.Table) -> None:
        """Count rows."""
        for counted in pc.value_counts(table["traits"]).to_pylist():
            self.traits[counted["values"]] = self.traits.get(counted["values"], 0) + counted["counts"]
        highest = pc.max(table["partition"]).as_py()
        self.highest_partition = max(self.highest_partition, -1 if highest is None else highest)
        self.sources.update(_sources(table))
        self.add_extent(table)

    def lanes(self, slice_us: int) -> int:
        """How many lanes share these messages, so that each has full commits in every slice."""
        span = (self.newest_us or 0) - (self.oldest_us or 0)
        return max(1, min(LANES, self.messages // (COMMIT_MESSAGES * (span // slice_us + 1))))

    def add_extent(self, table: pa.Table) -> None:
        """Count sizes and times of rows with no further columns."""
        self.messages += len(table)
        self.bytes += pc.sum(table["size"]).as_py()
        self.largest = max(self.largest, pc.max(table["size"]).as_py())
        times = table["publish_time"].cast(pa.int64())
        bounds = pc.min_max(times)
        if (oldest := bounds["min"].as_py()) is not None:
            self.oldest_us = oldest if self.oldest_us is None else min(self.oldest_us, oldest)
            newest = bounds["max"].as_py()
            self.newest_us = newest if self.newest_us is None else max(self.newest_us, newest)
            self._add_odd(times, oldest, newest)

    def _add_odd(self, times: pa.ChunkedArray, oldest: int, newest: int) -> None:
        """Count times that some destination may not take, which are few or none."""
        if newest >= LATEST_US:
            self.beyond += pc.sum(pc.greater_equal(times, LATEST_US)).as_py()
        if oldest < _SECOND and newest > -_SECOND:
            near = times.filter(pc.less(pc.abs(pc.max_element_wise(times, -_SECOND)), _SECOND))
            for counted in pc.value_counts(near).to_pylist():
                time, count = counted["values"], counted["counts"]
                self.around_1970[time] = self.around_1970.get(time, 0) + count


@dataclass
class Survey:
    """The figures of a selection, counted in bounded memory while it streams by.

    Attributes:
        requests: how often a file is opened to read the messages.
        lanes: messages by lane.
        topics: the messages by topic, in the order of the lanes.
        outside: messages whose file lies in no configured lake.
        outside_example: the location of one of them.
        no_dead_letters: messages to restore that are not dead letters.
    """

    figures: Figures = field(default_factory=Figures)
    requests: int = 0
    lanes: dict[int, int] = field(default_factory=dict)
    topics: dict[str, TopicSurvey] = field(default_factory=dict)
    outside: int = 0
    outside_example: str = ""
    no_dead_letters: int = 0

    def add(self, table: pa.Table, lakes: Sequence[Lake]) -> None:
        """Count the rows of one table of the stream."""
        self.figures.add(table)
        for counted in pc.value_counts(table["location"]).to_pylist():
            if all(lake.path(counted["values"]) is None for lake in lakes):
                self.outside += counted["counts"]
                self.outside_example = counted["values"]
        if "origin" in table.column_names:
            self.no_dead_letters += table["origin"].null_count

    def add_lane(self, topic: str, lane: int, rows: pa.Table) -> None:
        """Count rows of a lane."""
        self.lanes[lane] = self.lanes.get(lane, 0) + len(rows)
        self.topics.setdefault(topic, TopicSurvey()).add(rows)

    def unite_lanes(self, lanes: Mapping[int, int]) -> None:
        """Count lanes that became one together, given the new lane of each."""
        united: dict[int, int] = {}
        for lane, count in self.lanes.items():
            united[lanes[lane]] = united.get(lanes[lane], 0) + count
        self.lanes = united


def survey(
    index: Index,
    lakes: Sequence[Lake],
    selection: Selection,
    keep: Callable[[int, pa.RecordBatch], object],
    *,
    topic: str,
    options: Options,
    most: int | None = None,
) -> Survey:
    """Stream the selection in replay order, and hand on its lanes in the order of publish times.

    Args:
        index: where the messages are found.
        lakes: the configured lakes.
        selection: which messages.
        keep: called with each lane's windows (``WINDOW_SCHEMA``) in their order.
        topic: the destination's topic or pattern.
        options: how the messages are sent.
        most: stop counting soon after this many messages.

    Raises:
        ConfigurationError: the pattern is not valid, or yields no valid topics.
        TransientError: the index or a lake does not answer.
    """
    found, router = Survey(), Router(topic, options)
    columns = sorted(_ALWAYS | router.columns)
    with TimeOrder(options.step_us) as order:
        for given in selected(index, selection, columns):
            table = described(given) if options.restore else given
            found.add(table, lakes)
            for name, lane, rows in router.divide(order.stamp(table)):
                found.add_lane(name, lane, rows)
                order.add(lane, rows)
            if most is not None and found.figures.messages > most:
                return found
        _cut(order, found, options.slice_us, keep)
    if options.partitions is None and not options.restore:
        for one in found.topics.values():
            counts = (partitions(lake, *source) for lake in lakes for source in one.sources)
            one.source_partitions = max(counts, default=0)
    return found


def _sources(table: pa.Table) -> Iterator[tuple[str, int]]:
    found = [pc.unique(table[name]).to_pylist() for name in _SOURCE]
    if min(map(len, found)) <= 1:  # the usual case, and faster than grouping
        yield from itertools.product(*found)
        return
    for pair in table.select(_SOURCE).group_by(_SOURCE, use_threads=False).aggregate([]).to_pylist():
        yield pair["source"], pair["incarnation"]


def _cut(
    order: TimeOrder, found: Survey, slice_us: int, keep: Callable[[int, pa.RecordBatch], object]
) -> None:
    """Give each topic its lanes, and hand on their windows."""
    lanes = {lane: lane for lane in found.lanes}
    for number, topic in enumerate(found.topics.values()):
        count = topic.lanes(slice_us)
        for lane in range(number * LANES, (number + 1) * LANES):
            lanes[lane] = number * LANES + lane % count
    found.unite_lanes(lanes)
    known, cutters = np.array([lanes[lane] for lane in range(len(found.topics) * LANES)]), _Cutters(keep)
    for numbers, rows in order.sorted():
        united = known[numbers]
        for lane in np.unique(united).tolist():
            chosen = united == lane
            cutters.add(lane, rows if chosen.all() else rows.filter(pa.array(chosen)))
    cutters.finish()
    found.requests = cutters.requests


class _Cutters:
    """The rows of each lane that wait to become windows."""

    def __init__(self, keep: Callable[[int, pa.RecordBatch], object]) -> None:
        self._keep = keep
        self._open: dict[int, Cutter] = {}
        self.requests = 0

    def add(self, lane: int, rows: pa.Table) -> None:
        cutter = self._open.setdefault(lane, Cutter())
        self._hand_on(lane, cutter.add(rows))
        if sum(one.rows for one in self._open.values()) > _ROWS_WAITING:
            fullest = max(self._open, key=lambda lane: self._open[lane].rows)
            self._hand_on(fullest, self._open.pop(fullest).rest())

    def finish(self) -> None:
        for lane, cutter in self._open.items():
            self._hand_on(lane, cutter.rest())

    def _hand_on(self, lane: int, windows: Iterator[pa.RecordBatch]) -> None:
        for window in windows:
            self.requests += len(pc.unique(window["location"]))
            self._keep(lane, window)
