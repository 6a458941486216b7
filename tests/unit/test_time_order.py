"""Plans of many partitions: their rows come by publish time, each partition in its own order."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.model import UTC_MICROSECONDS
from transforms.replay.planning import TopicSurvey
from transforms.replay.plans import LANES
from transforms.replay.time_order import BLOCK, TimeOrder

MINUTE = 60_000_000


def rows(partition: int | None, times: list[int | None], source: str = "s") -> pa.Table:
    count = len(times)
    return pa.table(
        {
            "id": [f"{partition}_{n}" for n in range(count)],
            "source": [source] * count,
            "partition": pa.array([partition] * count, pa.int32()),
            "publish_time": pa.array(times, pa.int64()).cast(UTC_MICROSECONDS),
            "size": pa.array([1] * count, pa.int64()),
            "location": ["file:///x"] * count,
            "position": pa.array(range(count), pa.int64()),
            "checksum": pa.array([0] * count, pa.int64()),
        }
    )


def in_order(*tables: pa.Table, step_us: int = MINUTE // 2) -> list[str]:
    with TimeOrder(step_us) as order:
        for one in tables:
            order.add(3, order.stamp(one))
        found = list(order.sorted())
    assert all((lanes == 3).all() for lanes, _ in found)
    return [id for _, sorted_rows in found for id in sorted_rows["id"].to_pylist()]


@pytest.mark.parametrize("run", [10**6, 7, 1])
@settings(max_examples=40, deadline=None)
@given(parts=st.lists(st.lists(st.none() | st.integers(0, 10 * MINUTE), min_size=1, max_size=20), min_size=1))
def test_each_partition_keeps_its_order_in_memory_and_on_disk(
    run: int, parts: list[list[int | None]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transforms.replay.time_order._RUN_ROWS", run)
        patch.setattr("transforms.replay.time_order._BATCH_ROWS", 3)
        found = in_order(*[rows(number, times) for number, times in enumerate(parts)])
    assert sorted(found) == sorted(f"{p}_{n}" for p, times in enumerate(parts) for n in range(len(times)))
    for number, times in enumerate(parts):
        of_one = [int(id.partition("_")[2]) for id in found if id.startswith(f"{number}_")]
        assert of_one == list(range(len(times)))


@pytest.mark.parametrize("run", [10**6, 1_000])
def test_no_partition_is_more_than_half_a_slice_ahead(run: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.replay.time_order._RUN_ROWS", run)
    times = {p: list(range(p, 60 * MINUTE, (p + 1) * MINUTE // 20)) for p in range(5)}
    found = in_order(*[rows(number, list(every)) for number, every in times.items()])
    left = {number: list(every) for number, every in times.items()}
    for id in found:
        number, _, place = id.partition("_")
        assert left[int(number)].pop(0) == times[int(number)][int(place)]
        waiting = [every[0] for every in left.values() if every]
        assert not waiting or times[int(number)][int(place)] - min(waiting) <= MINUTE // 2


def test_a_short_step_is_in_the_order_of_time() -> None:
    found = in_order(rows(0, [1, 3, 2**62]), rows(1, [-(2**62), 2, 4]), rows(2, [None, 2]), step_us=1)
    assert found == ["2_0", "1_0", "0_0", "1_1", "2_1", "0_1", "1_2", "0_2"]


def test_where_a_slice_holds_much_partitions_take_turns() -> None:
    found = in_order(rows(0, [5] * 3 * BLOCK), rows(1, [5] * BLOCK), rows(2, [5] * 2 * BLOCK))
    turns = [id.partition("_")[0] for id in found[::BLOCK]]
    assert turns == ["0", "1", "2", "0", "2", "0"]


def test_a_topic_that_was_made_anew_comes_behind_the_first() -> None:
    assert in_order(rows(0, [9 * MINUTE]), rows(1, [MINUTE]), rows(0, [0])) == ["1_0", "0_0", "0_0"]


def test_a_topic_has_as_many_lanes_as_a_slice_fills() -> None:
    def lanes(messages: int, minutes: int, slice_us: int = MINUTE) -> int:
        survey = TopicSurvey(oldest_us=0, newest_us=minutes * MINUTE, messages=messages)
        return survey.lanes(slice_us)

    assert lanes(1, 0) == 1
    assert lanes(1_000_000, 99) == 1
    assert lanes(4_000_000, 99) == 2
    assert lanes(4_000_000, 99, 10 * MINUTE) == LANES
    assert lanes(10**9, 1) == LANES
