"""Memory and rate where more waits at the broker than memory holds."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.archive import fill
from bench.measure import PORT, Figure, Watched
from tests.servers.kafka import Kafka

__all__ = ["BACKLOGS", "Backlog", "bounded"]

_LONGEST = 90.0
"""Seconds after which a run is measured by what it has done."""


@dataclass(frozen=True)
class Backlog:
    """Messages that wait, and how they were produced.

    Attributes:
        bytes: of all payloads together, before compression.
        size: bytes of each payload.
        age: option ``--batch_age`` of the job that archives them.
        producer: properties of the producer.
    """

    name: str
    bytes: int
    size: int
    partitions: int
    age: str = "1s"
    producer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Its messages."""
        return self.bytes // self.size


BACKLOGS = (
    Backlog("1,000 partitions, 900 MB, 10 minutes a batch", 900_000_000, 1_000, 1_000, "10m"),
    Backlog(
        "40 partitions, 1.2 GB in zstd batches of 4.5 MB",
        1_200_000_000,
        20_000,
        40,
        producer={"compression.type": "zstd", "batch.size": 4_500_000},
    ),
    Backlog(
        "8 partitions, 1.2 GB in lz4 batches of 50 MB",
        1_200_000_000,
        20_000,
        8,
        producer={"compression.type": "lz4", "batch.size": 50_000_000},
    ),
)
_LARGE = {"message.max.bytes": 100_000_000, "linger.ms": 2_000, "queue.buffering.max.kbytes": 2_000_000}


def bounded(kafka: Kafka, backlog: Backlog, directory: Path) -> Figure:
    """Archive half of a backlog, or as much of it as is archived in a minute and a half."""
    topic, _ = fill(
        kafka,
        backlog.count,
        backlog.size,
        backlog.partitions,
        producer={**_LARGE, **backlog.producer} if backlog.producer else {},
        max_message_bytes=100_000_000,
    )
    watched = _persist(f"{kafka.url}/{topic}", f"file://{directory}/lake", backlog.age)
    begun: list[float] = []

    def archived() -> int:
        done = watched.count("persistor_messages_total")
        if done and not begun:
            begun.append(time.monotonic())
        return backlog.count if begun and time.monotonic() > begun[0] + _LONGEST else done

    figure = watched.figure(backlog.name, archived, backlog.count // 2)
    start = min(now for at, now in watched.memory if at > watched.memory[-1][0] - figure.seconds)
    done = min(figure.messages, watched.count("persistor_messages_total"))
    watched.stop()
    kafka.delete_topic(topic)
    return Figure(
        backlog.name, done, figure.seconds, figure.cpu, watched.peak, f"at its start {start:.0f} MB"
    )


def _persist(source: str, lake: str, age: str) -> Watched:
    given = {"source": source, "lake": lake, "index": "none", "batch_age": age, "metrics_port": PORT}
    options = [f"--{name}={value}" for name, value in given.items()]
    return Watched([sys.executable, "-m", "pipelines", "persist", *options])
