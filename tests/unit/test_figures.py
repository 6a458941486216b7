"""Histograms, samples, the division of rows among lanes, and rates."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.errors import ConfigurationError
from transforms.model import UTC_MICROSECONDS
from transforms.replay.control import Wish
from transforms.replay.figures import SAMPLES, Figures, Times
from transforms.replay.options import Options
from transforms.replay.pacing import Pacer, Schedule
from transforms.replay.plans import LANES
from transforms.replay.routing import Router, lane_of

DAY = 86_400_000_000


@given(
    st.lists(
        st.lists(
            st.integers(-(2**62), 2**62) | st.integers(0, 10**7) | st.integers(0, 400 * DAY), max_size=30
        ),
        max_size=6,
    )
)
def test_a_histogram_counts_every_time_in_at_most_100_buckets(tables: list[list[int]]) -> None:
    times = Times()
    for table in tables:
        times.add(np.array(table, np.int64))
    whole = [moment for table in tables for moment in table]
    histogram = times.histogram()
    if histogram is None:
        assert not whole
        return
    assert 1 <= len(histogram.messages) <= 100
    assert histogram.messages[0]
    assert histogram.messages[-1]
    expected = [0] * len(histogram.messages)
    for moment in whole:
        expected[(moment - histogram.start_us) // histogram.width_us] += 1
    assert list(histogram.messages) == expected


@pytest.mark.parametrize(
    ("span", "width"),
    [(0, 1_000), (1_500_000, 20_000), (3_600_000_000, 60_000_000), (DAY, 900_000_000), (40 * DAY, DAY // 2)],
)
def test_buckets_have_a_round_width(span: int, width: int) -> None:
    times = Times()
    times.add(np.arange(0, span + 1, max(1, span // 1000), dtype=np.int64) + 1_780_272_000_000_000)
    histogram = times.histogram()
    assert histogram is not None
    assert (histogram.width_us, histogram.start_us % histogram.width_us) == (width, 0)


@pytest.mark.parametrize("sizes", [[3], [10], [7, 4, 90], [1] * 57, [10_000, 10_000, 5], [100] * 90])
def test_samples_are_spread_over_the_whole_stream(sizes: list[int]) -> None:
    figures, first = Figures(), 0
    for size in sizes:
        figures.add(rows(range(first, first + size)))
        first += size
    places = [int(sample.id) for sample in figures.counted()["samples"]]
    assert len(places) == len(set(places)) == min(SAMPLES, first)
    assert places == sorted(places)
    even = np.linspace(0, first - 1, len(places))
    assert np.abs(np.array(places) - even).max() <= max(1, first / 20)


def rows(numbers: range) -> pa.Table:
    count = len(numbers)
    return pa.table(
        {
            "id": [str(n) for n in numbers],
            "source": ["s"] * count,
            "topic": ["t"] * count,
            "partition": pa.array([n % 3 for n in numbers], pa.int32()),
            "key": pa.array([None if n % 5 == 0 else b"%d" % (n % 50) for n in numbers], pa.binary()),
            "publish_time": pa.array(list(numbers), pa.int64()).cast(UTC_MICROSECONDS),
            "size": pa.array([1] * count, pa.int64()),
            "location": ["file:///x"] * count,
        }
    )


def divided(options: Options, pattern: str = "t") -> dict[int, list[int]]:
    router, lanes = Router(pattern, options), dict[int, list[int]]()
    for start in range(0, 60_000, 15_000):
        for _, lane, part in router.divide(rows(range(start, start + 15_000))):
            lanes.setdefault(lane, []).extend(map(int, part["id"].to_pylist()))
    assert sorted(n for lane in lanes.values() for n in lane) == list(range(60_000))
    assert all(lane == sorted(lane) for lane in lanes.values())
    return lanes


def test_rows_of_a_partition_stay_together() -> None:
    lanes = divided(Options())
    for number in range(3):
        assert {n % 3 for n in lanes[lane_of("s", number)]} >= {number}
    assert len(lanes) == len({lane_of("s", number) for number in range(3)})


def test_rows_of_a_key_stay_together_and_those_without_one_by_partition() -> None:
    where = {n: lane for lane, found in divided(Options(order="key")).items() for n in found}
    assert len(set(where.values())) > LANES // 2
    for n in range(60_000):
        assert where[n] == (lane_of("s", n % 3) if n % 5 == 0 else where[n % 50])


def test_without_an_order_rows_spread_evenly() -> None:
    assert {len(lane) for lane in divided(Options(order="none")).values()} == {10_000}


def test_a_pattern_gives_each_topic_lanes_of_its_own() -> None:
    router = Router("{topic}.of.{source}", Options())
    table = rows(range(6)).set_column(2, "topic", pa.array(["a", "b"] * 3))
    found = {(topic, lane // LANES) for topic, lane, _ in router.divide(table)}
    assert found == {("a.of.s", 0), ("b.of.s", 1)}


@pytest.mark.parametrize("name", ["", "a/b", "a,b", "__consumer_offsets", "x" * 300, "a b", "a\n", "*", ".."])
def test_what_is_no_topic_is_refused(name: str) -> None:
    table = rows(range(1)).set_column(2, "topic", pa.array([name]))
    with pytest.raises(ConfigurationError, match="not a valid topic"):
        list(Router("{topic}", Options()).divide(table))


@pytest.mark.parametrize(
    ("pattern", "problem"), [("{tpic}-x", "unknown; use {topic}"), ("{origin}", "it needs restore")]
)
def test_a_pattern_that_cannot_be_right_is_refused(pattern: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        Router(pattern, Options())


def test_a_rate_is_shared_by_workers_and_one_large_message_waits_its_time() -> None:
    assert Pacer(Wish).allow(np.full(70, 10)) == 70
    assert Pacer(lambda: Wish(messages_per_second=1_000), lambda: 0.2).allow(np.full(70, 10)) == 10
    pacer = Pacer(lambda: Wish(messages_per_second=1_000, bytes_per_second=2_000))
    assert pacer.allow(np.full(70, 10)) == 10
    large = Pacer(lambda: Wish(bytes_per_second=1_000_000))
    started = time.monotonic()
    assert [large.allow(np.array([200_000, 1])) for _ in range(2)] == [1, 0]
    while not large.allow(np.array([1])):
        pass
    assert 0.19 <= time.monotonic() - started < 10


def sent_at(pacer: Pacer, times: list[int], seconds: float) -> list[float]:
    """When each of the messages may be sent, in seconds from now; stops after ``seconds``."""
    started, found, left = time.monotonic(), list[float](), np.array(times)
    while len(left) and time.monotonic() - started < seconds:
        count = pacer.allow(np.ones(len(left), np.int64), left)
        found += [time.monotonic() - started] * count
        left = left[count:]
    return found


def test_messages_keep_their_spacing_at_the_speed_that_is_asked_for() -> None:
    times = [0, 500_000, 600_000, 2_000_000, 5_000_000]
    found = sent_at(Pacer(Wish, schedule=Schedule(0, 5.0)), times, 60)
    assert found == pytest.approx([time / 5_000_000 for time in times], abs=0.15)


def test_what_a_limit_or_a_standstill_holds_back_is_not_made_up_for() -> None:
    wished = Wish(messages_per_second=1.0)
    pacer = Pacer(lambda: wished, schedule=Schedule(0, 10.0))
    times = [number * 1_000_000 for number in range(15)]
    slow = sent_at(pacer, times, 2.5)
    assert 2 <= len(slow) <= 4
    wished = Wish()
    rest = times[len(slow) :]
    found = sent_at(pacer, rest, 60)
    assert np.diff(found[1:]) == pytest.approx([0.1] * (len(rest) - 2), abs=0.08)
