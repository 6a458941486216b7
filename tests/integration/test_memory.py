"""The memory of ``persistor persist`` stays within ``--memory``, whatever waits at the broker."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.integration.harness import Persist, metric
from tests.servers import free_port, wait_until
from tests.servers.careless import slow
from tests.servers.kafka import Kafka
from tests.servers.moto import Moto

_MEMORY = 96 * 2**20
# Copies on the way, one answer of the broker, and what allocators keep.
_MARGIN = 128 * 2**20
_LARGE = {"message.max.bytes": 100_000_000, "linger.ms": 500, "queue.buffering.max.kbytes": 1_000_000}


class Job:
    """A persist process at work.

    Attributes:
        peak: the most memory that it has had, in bytes.
    """

    def __init__(self, persist: Persist, topic: str, port: int) -> None:
        self._status = Path(f"/proc/{persist.pid}/status")
        self._topic, self._port = topic, port
        self.peak = 0

    def until(self, messages: int, seconds: float) -> None:
        """Wait until as many are archived."""
        wait_until(lambda: self._archived() >= messages, seconds, f"{messages} messages to be archived")
        [peak] = re.findall(r"VmHWM:\s+([0-9]+) kB", self._status.read_text())
        self.peak = int(peak) * 1024

    def _archived(self) -> int:
        return int(metric(self._port, "persistor_messages_total", source=self._topic) or 0)


@pytest.fixture(scope="module")
def libraries(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> int:
    """What the process takes with next to nothing to do."""
    topic, place = kafka.create_topic(f"idle-{uuid.uuid4().hex[:8]}"), tmp_path_factory.mktemp("idle")
    kafka.produce(topic, [{"value": b"x"}] * 1000)
    with running(kafka, topic, place) as (persist, job):
        job.until(1000, 60)
        persist.drain()
    return job.peak


@contextmanager
def running(kafka: Kafka, topic: str, place: Path, **options: Any) -> Iterator[tuple[Persist, Job]]:
    port = free_port()
    given = {
        "source": f"{kafka.url}/{topic}",
        "lake": f"file://{place}/lake",
        "index": "none",
        "memory": str(_MEMORY),
        "batch_messages": "10000",
        "metrics_port": str(port),
    }
    with Persist(place / "log", **{**given, **options}) as persist:
        yield persist, Job(persist, topic, port)


def filled(
    kafka: Kafka, megabytes: int, size: int, partitions: int, config: Mapping[str, Any] | None = None
) -> tuple[str, int]:
    """A topic with JSON of some size in it, and how many messages these are."""
    largest = {"max_message_bytes": 100_000_000}
    topic = kafka.create_topic(f"full-{uuid.uuid4().hex[:8]}", partitions, retention_ms=-1, **largest)
    chance, count = random.Random(size), megabytes * 1_000_000 // size
    words = [f"customer {chance.randrange(10_000)} of {chance.randrange(100)}" for _ in range(1_000)]
    pool = [json.dumps(chance.choices(words, k=size // 20))[:size].encode() for _ in range(100)]
    producer = Producer({**_LARGE, **(config or {}), "bootstrap.servers": kafka.bootstrap})
    for number in range(count):
        _put(producer, topic, pool[number % len(pool)], number % partitions)
    assert producer.flush(60) == 0
    return topic, count


def _put(producer: Producer, topic: str, value: bytes, partition: int) -> None:
    while True:
        try:
            return producer.produce(topic, value, partition=partition)
        except BufferError:
            producer.poll(0.05)


def test_open_batches_of_many_partitions_are_closed_in_time(
    kafka: Kafka, libraries: int, tmp_path: Path
) -> None:
    topic, count = filled(kafka, 300, 1_000, 300)
    with running(kafka, topic, tmp_path, batch_age="10m") as (persist, job):
        job.until(count - _MEMORY // 1_000, 120)
        persist.drain()
    assert job.peak - libraries < _MEMORY + _MARGIN


@pytest.mark.parametrize(("codec", "batch"), [("zstd", 4_500_000), ("lz4", 50_000_000)])
def test_compressed_batches_are_not_fetched_beyond_it(
    kafka: Kafka, libraries: int, tmp_path: Path, codec: str, batch: int
) -> None:
    how = {"compression.type": codec, "batch.size": batch}
    topic, count = filled(kafka, 400, 20_000, 8, how)
    with running(kafka, topic, tmp_path, batch_age="1s") as (persist, job):
        job.until(count, 120)
        persist.drain()
    # A batch of the broker is decompressed as a whole, and the next one before the last is taken.
    assert job.peak - libraries < _MEMORY + _MARGIN + 3 * max(0, batch - 10_000_000)


def test_what_is_on_its_way_to_a_slow_store_counts(
    kafka: Kafka, moto: Moto, libraries: int, tmp_path: Path
) -> None:
    topic, count = filled(kafka, 200, 20_000, 8)
    bucket = moto.create_bucket(f"slow-{uuid.uuid4().hex[:8]}")
    with slow(moto, 1.0) as config:
        lake = {"lake": bucket, "lake_config": [f"{name}={value}" for name, value in config.items()]}
        with running(kafka, topic, tmp_path, batch_age="1s", **lake) as (persist, job):
            job.until(count // 2, 120)
            persist.kill()
    assert job.peak - libraries < _MEMORY + _MARGIN
