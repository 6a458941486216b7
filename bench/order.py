"""Sending messages of many partitions again: how far apart publish times are, beside a plain producer."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, TopicPartition

from bench.archive import archive, fill
from bench.measure import Figure, Watched
from tests.servers.kafka import Kafka

__all__ = ["ordered"]

_PARTITIONS = 16
_SLICES = ("1m", "1s")
_Times = list[npt.NDArray[np.int64]]


def ordered(kafka: Kafka, count: int, directory: Path) -> Iterator[Figure]:
    """Produce, archive, then resubmit with each slice; the note says how far apart publish times were."""
    topic, produced = fill(kafka, count, 200, _PARTITIONS)
    yield replace(produced, name="plain producer")
    index = f"sqlite://{directory}/index.db"
    archive("loop", kafka, topic, count, directory, index=index)
    published = _times(kafka, topic, count)
    for slice in _SLICES:
        target = kafka.create_topic(
            f"{topic}-{slice}", _PARTITIONS, retention_ms=-1, **{"message.timestamp.type": "LogAppendTime"}
        )
        yield _sent(kafka, topic, target, slice, index, directory, produced, published)


def _sent(
    kafka: Kafka,
    topic: str,
    target: str,
    slice: str,
    index: str,
    directory: Path,
    produced: Figure,
    published: _Times,
) -> Figure:
    places = [f"--index={index}", f"--lake=file://{directory}/lake", f"--destination={kafka.url}/{target}"]
    options = ["--timestamp=now", "--partitions=original", f"--slice={slice}"]
    selection = json.dumps({"sources": [topic]})
    command = [sys.executable, "-m", "pipelines", "resubmit", "--json", *places, *options]
    watched = Watched([*command, f"--selection={selection}"])
    report = json.loads(watched.output())["report"]
    rate = report["published"] / report["seconds"]
    apart = _furthest_apart(published, _times(kafka, target, report["published"]))
    note = f"{rate / produced.rate:.0%} of the plain producer; at most {apart / 1000:.2f} s apart as appended"
    return Figure(
        f"slices of {slice}", report["published"], report["seconds"], watched.used, watched.peak, note
    )


def _times(kafka: Kafka, topic: str, count: int) -> _Times:
    """The timestamps of each partition's messages, in milliseconds."""
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": "bench", "isolation.level": "read_committed"}
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(_PARTITIONS)])
    found: list[list[int]] = [[] for _ in range(_PARTITIONS)]
    left, deadline = count, time.monotonic() + 600
    while left and time.monotonic() < deadline:
        for message in consumer.consume(10_000, 1.0):
            found[message.partition() or 0].append(message.timestamp()[1])
            left -= 1
    consumer.close()
    if left:
        raise RuntimeError(f"{left} of {count} messages of {topic} did not come")
    return [np.array(times) for times in found]


def _furthest_apart(published: _Times, came: _Times) -> int:
    """How far what had come was ahead of what a partition still lacked, at any moment, in milliseconds.

    By the time at which the broker appended messages, so those of open transactions are included: up to
    20,000 messages of each lane, which a read-committed consumer does not see yet.
    """
    moments = np.unique(np.concatenate(came))
    newest = np.full(len(moments), np.iinfo(np.int64).min)
    waiting = np.full(len(moments), np.iinfo(np.int64).max)
    for times, arrived in zip(published, came, strict=True):
        highest = np.maximum.accumulate(times)
        there = np.searchsorted(arrived, moments, side="right")
        newest = np.maximum(newest, np.where(there > 0, highest[np.maximum(there - 1, 0)], newest))
        unsent = there < len(times)
        waiting = np.minimum(waiting, np.where(unsent, highest[np.minimum(there, len(times) - 1)], waiting))
    return max(0, int((newest - waiting).max()))
