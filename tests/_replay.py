"""What the tests of resubmission share: settings, plans, commands and what a destination holds."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, TopicPartition

from pipelines.settings.replay import ResubmitSettings
from tests._messages import row, table
from tests.servers.kafka import Kafka
from transforms import registry
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.replay import Options, Plan, freeze_plan
from transforms.selection import Selection

__all__ = ["command", "consumed", "expected", "freeze", "header", "numbered", "settings"]

ORDERS = Selection(sources=("orders",))


def settings(tmp_path: Path, destination: str | None, **more: Any) -> ResubmitSettings:
    """Of a resubmission of the source ``orders`` from the lake and the index below a directory."""
    plain = {
        "destination": destination,
        "lakes": (f"file://{tmp_path}/lake",),
        "index": f"sqlite://{tmp_path}/index.db",
        "selection": json.dumps({"sources": ["orders"]}),
    }
    return ResubmitSettings(**{**plain, **more})


def command(made: ResubmitSettings, *more: str) -> Sequence[str]:
    """The command that does what the settings say, but for selection and job."""
    plain = ["--index", made.index, "--lake", made.lakes[0], "--destination", made.destination or ""]
    return [sys.executable, "-m", "pipelines", "resubmit", "--json", *plain, *more]


def freeze(lake: Lake, index: Index, url: str, selection: Selection = ORDERS, **options: Any) -> Plan:
    """A stored plan for a real destination."""
    publisher = registry.broker(url).open_publisher(url, {})
    try:
        return freeze_plan(
            index,
            [lake],
            selection,
            url=url,
            destination=publisher.destination(),
            options=Options(**options),
        )
    finally:
        publisher.close()


def header(name: str, value: bytes | None) -> dict[str, Any]:
    return {"name": name, "value": value}


def numbered(count: int, partition: int = 0, start: int = 0) -> pa.Table:
    """Messages of one partition whose data count up, with seven keys, of about now."""
    time_us = time.time_ns() // 1_000_000_000 * 1_000_000
    return table(
        *[
            row(partition=partition, offset=n, data=b"%d" % n, key=b"k%d" % (n % 7), publish_time=time_us)
            for n in range(start, start + count)
        ]
    )


def consumed(kafka: Kafka, topic: str, partitions: int = 1) -> list[tuple[Any, ...]]:
    """What a read-committed consumer sees of a topic by now, by partition in order."""
    kafka.settle(topic)
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "tests",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.message.max.bytes": 20_000_000,
        }
    )
    consumer.assign([TopicPartition(topic, n, 0) for n in range(partitions)])
    found: dict[int, list[tuple[Any, ...]]] = {n: [] for n in range(partitions)}
    ended: set[int] = set()
    deadline = time.monotonic() + 60
    while len(ended) < partitions and time.monotonic() < deadline:
        for message in consumer.consume(10_000, 0.5):
            if error := message.error():
                if error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                continue
            told = message.key(), message.value(), message.headers(), message.timestamp()[1]
            found[message.partition()].append((message.partition(), *told))
    consumer.close()
    assert len(ended) == partitions
    return [message for n in range(partitions) for message in found[n]]


def expected(messages: pa.Table) -> list[tuple[Any, ...]]:
    """Messages in the form of :func:`consumed`."""
    return [
        (
            r["partition"],
            r["key"],
            r["data"],
            [(h["name"], h["value"]) for h in r["headers"]] or None,
            round(r["publish_time"].timestamp() * 1000),
        )
        for r in messages.to_pylist()
    ]
