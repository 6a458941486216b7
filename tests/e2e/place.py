"""A service with a day's archive behind it and a broker to send to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition

from tests.api.conftest import Client, Site
from tests.e2e.data import fill
from tests.servers.kafka import Kafka
from transforms.selection import parse_selection

__all__ = ["TOPICS", "Place", "open_place"]

TOPICS = ("orders", "telemetry", "orders-replay", "slow-replay")
_PARTITIONS = 3


@dataclass
class Place:
    """Where the pages are, and what lies behind them; ``now`` is the newest message's time in µs."""

    url: str
    client: Client
    site: Site
    kafka: Kafka
    now: int

    def arrived(self, topic: str) -> list[Message]:
        """What a read-committed consumer finds in a topic."""
        settings = {"group.id": "pages", "isolation.level": "read_committed", "enable.partition.eof": True}
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap, **settings})
        consumer.assign([TopicPartition(topic, number, 0) for number in range(_PARTITIONS)])
        found, ends = [], 0
        while ends < _PARTITIONS:
            message = consumer.poll(30)
            assert message is not None, f"no end of {topic}"
            if message.error():
                ends += 1
            else:
                found.append(message)
        consumer.close()
        return found

    def matching(self, selection: dict[str, Any]) -> int:
        """How many messages a selection has."""
        found = self.site.index.summarize(parse_selection(json.dumps(selection)))
        return sum(source.messages for source in found)


@contextlib.contextmanager
def open_place(directory: Path, kafka: Kafka, **options: Any) -> Iterator[Place]:
    """Serve the pages while the block runs; jobs run as processes of their own."""
    for topic in TOPICS:
        kafka.create_topic(topic, partitions=_PARTITIONS)
    site = Site.at(directory)
    now = fill(site.lake, site.index)
    try:
        with site.serve({"main": kafka.url}, **options) as client:
            yield Place(client.url, client, site, kafka, now)
    finally:
        site.index.close()
