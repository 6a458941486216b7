"""How well the rate that is wished of a resubmission is kept, as the broker sees it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, Message, TopicPartition

from bench.archive import archive, fill
from bench.measure import Figure, Watched
from tests.servers.kafka import Kafka

__all__ = ["RATES", "Rate", "paced"]

_BEFORE, _WINDOW, _AFTER = 2, 30, 4
"""Seconds that are measured, and how long a job sends before and after them."""
_PARTITIONS = 4


@dataclass(frozen=True)
class Rate:
    """A rate and messages to try it with.

    Attributes:
        unit: ``messages`` or ``bytes``.
        size: bytes of each payload.
    """

    name: str
    unit: str
    rate: int
    size: int

    @property
    def count(self) -> int:
        """Messages of a job that goes on long enough."""
        return self.rate * (_BEFORE + _WINDOW + _AFTER) // (self.size if self.unit == "bytes" else 1)


RATES = (
    Rate("500 messages/s", "messages", 500, 200),
    Rate("5,000 messages/s", "messages", 5_000, 200),
    Rate("20 MB/s", "bytes", 20_000_000, 10_000),
)


def paced(kafka: Kafka, wished: Rate, directory: Path) -> Figure:
    """Archive some messages, send them again at a rate, and ask the broker when they came."""
    topic, _ = fill(kafka, wished.count, wished.size, _PARTITIONS)
    index, lake = f"sqlite://{directory}/index.db", f"file://{directory}/lake"
    archive("loop", kafka, topic, wished.count, directory, index=index)
    kept_by_broker = {"message_timestamp_type": "LogAppendTime", "retention_ms": -1}
    target = kafka.create_topic(f"{topic}-paced", _PARTITIONS, **kept_by_broker)
    places = [f"--index={index}", f"--lake={lake}", f"--destination={kafka.url}/{target}"]
    selection = json.dumps({"sources": [topic]})
    how = ["--timestamp=now", f"--{wished.unit}_per_second={wished.rate}", f"--selection={selection}"]
    watched = Watched([sys.executable, "-m", "pipelines", "resubmit", "--json", *how, *places])
    watched.output()
    times, sizes = _arrivals(kafka, target)
    for name in (topic, target):
        kafka.delete_topic(name)
    amounts = sizes if wished.unit == "bytes" else np.ones_like(sizes)
    note = _kept(times - times.min() - _BEFORE, amounts, wished.rate)
    return Figure(wished.name, len(times), float(np.ptp(times)), watched.used, watched.peak, note)


def _kept(times: npt.NDArray[np.float64], amounts: npt.NDArray[np.float64], rate: float) -> str:
    seconds, _ = np.histogram(times, _WINDOW, (0, _WINDOW), weights=amounts)
    parts = seconds / rate * 100
    worst = f"{parts.min():.0f} to {parts.max():.0f} %"
    return f"{parts.mean():.1f} % of it over {_WINDOW} s; single seconds {worst}"


def _arrivals(kafka: Kafka, topic: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """When each message came, in seconds, and what the index calls its size."""
    reading = {"group.id": "bench", "isolation.level": "read_committed", "enable.partition.eof": True}
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, **reading})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(_PARTITIONS)])
    found: list[tuple[float, float]] = []
    ends = 0
    while ends < _PARTITIONS:
        for message in consumer.consume(1_000, 10):
            ends += message.error() is not None
            if not message.error():
                found.append((message.timestamp()[1] / 1000, _size(message)))
    consumer.close()
    times, sizes = np.array(found).T
    return times, sizes


def _size(message: Message) -> int:
    headers = message.headers() or []
    parts = [message.key(), message.value(), *(part for name, value in headers for part in (name, value))]
    return sum(len(part) for part in parts if part is not None)
