"""Lanes that work at the same time: none is more than a slice ahead, each message arrives once, in order."""

from __future__ import annotations

import itertools
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from tests._archive import archive
from tests._brokers import NatsSite, fetch, reading, together
from tests._messages import row, table
from tests._replay import consumed, freeze
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from transforms import registry
from transforms.brokers import Partition, Publisher, PublishOptions, Undelivered
from transforms.errors import PermanentError
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.replay import Plan, Report
from transforms.replay.control import Wish, write_control
from transforms.replay.ledger import total
from transforms.replay.plans import folder, lane_url, read_windows
from transforms.replay.turns import replay_lanes

MINUTE = 60_000_000
START = 1_780_000_000_000_000
"""The messages' own time is old: topics must keep it, or take the time of sending."""


class Recorded:
    """A publisher whose commits are noted: when the messages of which publish times became visible."""

    def __init__(self, publisher: Publisher, lane: int, seen: list[tuple[int, list[int]]]) -> None:
        self._publisher, self._lane, self._seen = publisher, lane, seen
        self._sent: list[int] = []
        self._guard = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._publisher, name)

    def begin(self) -> int | None:
        self._sent = []
        return self._publisher.begin()

    def send(self, messages: pa.Table, options: PublishOptions) -> None:
        self._sent += messages["publish_time"].cast(pa.int64()).to_pylist()
        self._publisher.send(messages, options)

    def commit(self, done: int) -> list[Undelivered]:
        undelivered = self._publisher.commit(done)
        self._seen.append((self._lane, self._sent))
        self._sent = []
        return undelivered


def spread(partitions: int, minutes: int, each: int, seed: int = 1) -> list[pa.Table]:
    """Messages of partitions that are not equally busy, some with holes of minutes."""
    chance, parts = random.Random(seed), []
    for number in range(partitions):
        times = sorted(chance.randrange(minutes * MINUTE) for _ in range(each * (1 + number % 2)))
        if number == 1:
            times = [time for time in times if not 2 * MINUTE < time < 5 * MINUTE]
        parts.append(
            table(
                *[
                    row(partition=number, offset=n, data=b"%d" % n, key=b"k", publish_time=START + time)
                    for n, time in enumerate(times)
                ]
            )
        )
    return parts


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few messages make many lanes."""
    monkeypatch.setattr("transforms.replay.planning.COMMIT_MESSAGES", 60)


def opening(plan: Plan, seen: list[tuple[int, list[int]]]) -> Callable[[int], Publisher]:
    def open_publisher(lane: int) -> Publisher:
        url = lane_url(plan, lane)
        opened = registry.broker(url).open_publisher(url, {}, name=f"{plan.job}-{lane}")
        return Recorded(opened, lane, seen)  # type: ignore[return-value]

    return open_publisher


def furthest_apart(lake: Lake, plan: Plan, seen: list[tuple[int, list[int]]]) -> int:
    """How far what was published was ahead of what a lane had still to send, at any moment, in µs."""
    left = {lane: times_of(lake, plan, lane) for lane in plan.lanes}
    places, newest, most = dict.fromkeys(left, 0), 0, 0
    for lane, times in seen:
        places[lane] += len(times)
        newest = max(newest, *times) if times else newest
        waiting = [left[one][place] for one, place in places.items() if place < len(left[one])]
        most = max(most, newest - min(waiting)) if waiting else most
    return most


def times_of(lake: Lake, plan: Plan, lane: int) -> list[int]:
    windows = read_windows(lake, plan, lane)
    return [time for window in windows for time in window["publish_time"].cast(pa.int64()).to_pylist()]


def once_and_in_order(found: list[tuple[Any, ...]], parts: list[pa.Table]) -> None:
    by_partition: dict[int, list[bytes]] = defaultdict(list)
    for message in found:
        by_partition[message[0]].append(message[2])
    assert dict(by_partition) == {n: part["data"].to_pylist() for n, part in enumerate(parts)}


@pytest.mark.usefixtures("small")
def test_lanes_of_one_worker_stay_within_the_slice_on_kafka(kafka: Kafka, lake: Lake, index: Index) -> None:
    topic, parts = kafka.create_topic("slices", 8), spread(8, 12, 900)
    for part in parts:
        archive(lake, index, part, rows_per_file=400)
    plan = freeze(lake, index, f"{kafka.url}/{topic}", timestamp="now")
    assert len(plan.lanes) > 4
    seen: list[tuple[int, list[int]]] = []
    reports = replay_lanes(plan, list(plan.lanes), [lake], opening(plan, seen))
    assert sum(report.published for report in reports) == plan.messages == total(lake, plan).published
    assert {report.halted for report in reports} == {None}
    assert furthest_apart(lake, plan, seen) <= MINUTE
    once_and_in_order(consumed(kafka, topic, 8), parts)


@pytest.mark.usefixtures("small")
def test_workers_stay_within_the_slice_of_each_other_as_far_as_they_look(
    kafka: Kafka, lake: Lake, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.replay.others._LOOK_EVERY", 0.1)
    topic, parts = kafka.create_topic("workers", 8), spread(8, 6, 900)
    for part in parts:
        archive(lake, index, part)
    plan = freeze(lake, index, f"{kafka.url}/{topic}", timestamp="now")
    seen: list[tuple[int, list[int]]] = []
    lanes = sorted(plan.lanes)
    reports: list[Report] = []
    workers = [
        threading.Thread(
            target=lambda mine=mine: reports.extend(replay_lanes(plan, mine, [lake], opening(plan, seen)))
        )
        for mine in (lanes[::2], lanes[1::2])
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(240)
    assert sum(report.published for report in reports) == plan.messages
    assert furthest_apart(lake, plan, seen) <= 2 * MINUTE
    once_and_in_order(consumed(kafka, topic, 8), parts)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("wished", ["pause", "cancel"])
def test_more_lanes_than_may_be_open_pause_together_and_go_on(
    kafka: Kafka, lake: Lake, index: Index, monkeypatch: pytest.MonkeyPatch, wished: Any
) -> None:
    monkeypatch.setattr("transforms.replay.turns._OPEN_LANES", 3)
    monkeypatch.setattr("transforms.replay.turns._THREADS", 2)
    topic, parts = kafka.create_topic(f"paused-{wished}", 8), spread(8, 3, 600)
    for part in parts:
        archive(lake, index, part)
    plan = freeze(lake, index, f"{kafka.url}/{topic}", timestamp="now")
    assert len(plan.lanes) > 3
    seen: list[tuple[int, list[int]]] = []
    write_control(lake, plan.job, Wish(messages_per_second=1_500), 1)
    halted: list[Report] = []
    worker = threading.Thread(
        target=lambda: halted.extend(replay_lanes(plan, list(plan.lanes), [lake], opening(plan, seen)))
    )
    worker.start()
    wait_until(lambda: total(lake, plan).done > 0, 60, "the first commit")
    write_control(lake, plan.job, Wish(wished), 2)
    worker.join(60)
    assert not worker.is_alive()
    done = total(lake, plan).published
    assert 0 < done < plan.messages
    assert sum(report.published for report in halted) == done
    write_control(lake, plan.job, Wish(), 3)
    rest = replay_lanes(plan, list(plan.lanes), [lake], opening(plan, seen))
    assert sum(report.published for report in rest) == plan.messages - done
    assert {report.may_repeat for report in rest} == {0}
    once_and_in_order(consumed(kafka, topic, 8), parts)


@pytest.mark.usefixtures("small")
def test_lanes_of_one_worker_stay_within_the_slice_on_nats(
    nats_site: NatsSite, lake: Lake, index: Index, subject: str
) -> None:
    parts = spread(4, 6, 300)
    for part in parts:
        archive(lake, index, part)
    plan = freeze(lake, index, f"{nats_site.server.url}/{subject}", lossy=True)
    assert len(plan.lanes) >= 2
    seen: list[tuple[int, list[int]]] = []
    reports = replay_lanes(plan, list(plan.lanes), [lake], opening(plan, seen))
    assert sum(report.published for report in reports) == plan.messages
    assert furthest_apart(lake, plan, seen) <= MINUTE
    with reading(nats_site.reader(subject), {Partition(subject, 0): 1}) as reader:
        arrived = together(fetch(reader, plan.messages))["data"].to_pylist()
        assert sorted(arrived) == sorted(data for part in parts for data in part["data"].to_pylist())


@pytest.mark.usefixtures("small")
def test_a_plan_of_an_older_release_runs_though_its_lanes_are_not_by_time(
    kafka: Kafka, lake: Lake, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such lanes have one partition after another: they wait for each other, but never for ever."""
    topic, parts = kafka.create_topic("older", 8), spread(8, 6, 200)
    monkeypatch.setattr("transforms.replay.time_order.TimeOrder._order", by_partition())
    for part in parts:
        archive(lake, index, part)
    plan = freeze(lake, index, f"{kafka.url}/{topic}", timestamp="now")
    assert len(plan.lanes) > 2
    reports = replay_lanes(plan, list(plan.lanes), [lake], opening(plan, []))
    assert sum(report.published for report in reports) == plan.messages
    once_and_in_order(consumed(kafka, topic, 8), parts)


def by_partition() -> Any:
    numbers: Iterator[int] = itertools.count()
    return lambda _self, _track, times: times * 0 + next(numbers)


@pytest.mark.usefixtures("small")
def test_a_lane_whose_plan_is_damaged_ends_the_job_and_leaves_nobody_waiting(
    kafka: Kafka, lake: Lake, index: Index
) -> None:
    topic = kafka.create_topic("damaged", 4)
    for part in spread(4, 8, 600):
        archive(lake, index, part)
    plan = freeze(lake, index, f"{kafka.url}/{topic}", timestamp="now")
    damaged = min(plan.lanes)
    for path, _ in list(lake.list(f"{folder(plan.job)}/{plan.attempt}/{damaged:02d}")):
        lake.delete(path)
    with pytest.raises(PermanentError, match=f"The plan of job {plan.job} is damaged"):
        replay_lanes(plan, list(plan.lanes), [lake], opening(plan, []))
