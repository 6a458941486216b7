"""Starts a source of many partitions on a store that answers late, and watches turns without messages."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection

import psutil
from confluent_kafka.cimpl import NewTopic

from bench.measure import Figure
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from tests.servers.long_lake import LongLake, long_lake
from transforms.reading.buffers import Limits
from transforms.reading.shard import Ready, Shard
from transforms.reading.source import Source

__all__ = ["many_partitions"]

_DELAY = 0.03
_TURNS = 60


def many_partitions(kafka: Kafka, topics: int, each: int) -> Iterator[Figure]:
    """A first start, a restart by offsets and claims, one by claims alone, and what idle turns cost."""
    names = [f"many-{number:03d}" for number in range(topics)]
    admin = kafka.admin()
    for at in range(0, topics, 10):  # a controller refuses larger batches
        new = [NewTopic(name, each, 1) for name in names[at : at + 10]]
        for done in admin.create_topics(new, request_timeout=300).values():
            done.result(300)
    wait_until(lambda: len(admin.list_topics(timeout=60).topics) >= topics, 300, "the topics")
    for name in names:
        kafka.produce(name, ({"partition": number, "value": b"x" * 200} for number in range(each)))
    with _late_store() as config:
        source = Source(f"{kafka.url}/many-*", lake=LongLake.url, lake_config=config, purpose="bench")
        source = replace(source, limits=Limits(age=1.0))
        yield from _run(source, topics * each, "first start", archive=True)
        yield from _run(source, topics * each, "restart, by offsets and claims")
        kafka.delete_group(source.group)
        yield from _run(source, topics * each, "restart, by claims alone", idle=True)


def _run(
    source: Source, partitions: int, name: str, *, archive: bool = False, idle: bool = False
) -> Iterator[Figure]:
    begun, used = time.monotonic(), time.process_time()
    shard, first, at, ready = Shard(source), 0.0, "", list[Ready]()
    tracks = shard._assignment.tracks  # noqa: SLF001 - nothing else says how many have started
    while len(tracks) < partitions:
        ready += shard.turn(0.1, at)
        at = ready[-1].at if ready else at
        first = first or (time.monotonic() - begun if tracks else 0.0)
    took, cpu = time.monotonic() - begun, time.process_time() - used
    yield Figure(name, partitions, took, cpu, _memory(), f"the first ones are read after {first:.1f} s")
    if archive:
        _archive(shard, ready, partitions)
    if idle:
        yield _idle(shard, at, partitions)
    shard.close()


def _archive(shard: Shard, ready: list[Ready], partitions: int) -> None:
    """Until everything is claimed and acknowledged."""
    while len({one.key for one in ready}) < partitions:
        ready += shard.turn(1.0, ready[-1].at if ready else "")
    shard.durable([(one.key, one.acknowledgement) for one in ready if one.acknowledgement])
    shard.turn(1.0, ready[-1].at)


def _idle(shard: Shard, at: str, partitions: int) -> Figure:
    for _ in range(10):
        shard.turn(1.0, at)
    begun, used, own = time.monotonic(), time.process_time(), time.thread_time()
    for _ in range(_TURNS):
        shard.turn(1.0, at)
    process, turn = time.process_time() - used, time.thread_time() - own
    ours, all_threads = (f"{seconds / _TURNS * 1000:.1f} ms" for seconds in (turn, process))
    said = f"a turn of a second takes {ours} of CPU, with the client's threads {all_threads}"
    return Figure("idle", partitions, time.monotonic() - begun, process, _memory(), said)


@contextmanager
def _late_store() -> Iterator[dict[str, str]]:
    """In a process of its own, whose time is not counted."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    yield ours.recv()
    ours.send(None)
    process.join()


def _serve(pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    with long_lake(delay=_DELAY) as lake:
        pipe.send(lake.config)
        pipe.recv()


def _memory() -> float:
    return psutil.Process().memory_info().rss / 1e6
