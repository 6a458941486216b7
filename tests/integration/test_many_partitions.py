"""A source of many partitions: what a start and an idle turn ask for, counted."""

from __future__ import annotations

import cProfile
import pstats
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from confluent_kafka.cimpl import NewTopic

from tests._reading import DEADLINE, Reading, reading
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from tests.servers.long_lake import LongLake, long_lake
from transforms.reading.buffers import Limits
from transforms.reading.source import Source

_TOPICS, _EACH = 5, 100
_ALL = _TOPICS * _EACH


@pytest.fixture
def lake() -> Iterator[LongLake]:
    with long_lake() as bucket:
        yield bucket


@pytest.fixture
def source(kafka: Kafka, lake: LongLake) -> Source:
    stem = f"t{uuid.uuid4().hex[:10]}"
    names = [f"{stem}-{number}" for number in range(_TOPICS)]
    admin = kafka.admin()  # must outlive the request
    for done in admin.create_topics([NewTopic(name, _EACH, 1) for name in names]).values():
        done.result(60)
    for name in names:
        kafka.produce(name, ({"partition": number, "value": b"x"} for number in range(_EACH)))
    source = Source(f"{kafka.url}/{stem}-*", lake=lake.url, lake_config=lake.config, purpose=stem)
    return replace(source, limits=Limits(age=0.5))


def _started(opened: Reading) -> None:
    wait_until(
        lambda: opened.turn() is not None and len(opened.shard._assignment.tracks) == _ALL, DEADLINE, "all"
    )


def test_starts_and_idle_turns_ask_for_little(kafka: Kafka, source: Source, lake: LongLake) -> None:
    with reading(source) as first:
        _started(first)
        # Nothing is archived: one list each, and of each topic the entry is made.
        assert lake.asked["LIST"] <= _ALL + 3 * _TOPICS + 5
        assert lake.asked["GET"] <= _TOPICS
        first.until(_ALL).acknowledge()
        wait_until(lambda: first.turn() == [] and first.shard._reader.committed(_live(first)), DEADLINE, "x")
    assert len(first.ids) == len(set(first.ids)) == _ALL

    lake.asked.clear()
    with reading(source) as second:
        _started(second)
        assert lake.asked["LIST"] <= _ALL + 2 * _TOPICS + 5
        assert lake.asked["GET"] <= _ALL + 2 * _TOPICS
        assert lake.asked["PUT"] == 0
        _idle(second, lake)
    assert second.ids == []


def _live(opened: Reading) -> list[object]:
    return [track.partition for track in opened.shard._assignment.tracks.values()]


def _idle(opened: Reading, lake: LongLake) -> None:
    wait_until(lambda: opened.turn() == [] and not opened.shard._assignment.busy, DEADLINE, "rest")
    lake.asked.clear()
    opened.shard._assignment._discover_at = float("inf")
    profile = cProfile.Profile()
    profile.runcall(opened.turn)
    assert lake.asked.total() == 0
    # Polls and their like: as many with one partition.
    assert pstats.Stats(profile).total_calls < _ALL / 2
