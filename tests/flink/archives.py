"""Numbered messages on Kafka, and whether lake and index hold each of them exactly once."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tests.integration.harness import Archive, Persist
from tests.servers import wait_until
from tests.servers.kafka import Kafka

__all__ = ["MESSAGES", "PARTITIONS", "Topic", "check_exact", "numbers", "wait_for"]

MESSAGES = int(os.environ.get("FLINK_MESSAGES", "100000"))
"""Of the larger tests; ``make test-flink`` takes 500,000."""

PARTITIONS = 4


class Topic:
    """A topic whose messages are the numbers from 0 on."""

    def __init__(self, kafka: Kafka) -> None:
        self.name = kafka.create_topic(f"orders-{uuid.uuid4().hex[:8]}", partitions=PARTITIONS)
        self.url = f"{kafka.url}/{self.name}"
        self.count = 0
        self._kafka = kafka

    @classmethod
    def of(cls, kafka: Kafka, name: str, count: int) -> Topic:
        """A topic that another one's messages were sent to."""
        topic = object.__new__(cls)
        topic.name, topic.url, topic.count, topic._kafka = name, f"{kafka.url}/{name}", count, kafka
        return topic

    def produce(self, count: int) -> None:
        """Publish the next ``count`` numbers."""
        self._kafka.produce(self.name, self._messages(self.count, self.count + count))
        self.count += count

    def ids(self) -> list[str]:
        """The ids that the archive must have, sorted."""
        numbered = (divmod(number, PARTITIONS) for number in range(self.count))
        return sorted(f"{self.name}_{partition}_{offset}" for offset, partition in numbered)

    @staticmethod
    def _messages(start: int, end: int) -> Iterator[dict[str, Any]]:
        for number in range(start, end):
            padded = b"%d" % number + b" " * (number % 150)
            yield {"key": b"%d" % (number % 7), "value": padded, "partition": number % PARTITIONS}


def wait_for(archive: Archive, messages: int, persist: Persist | None = None, seconds: float = 300.0) -> None:
    """Return once the index has so many; fail where the process that archives them has ended."""

    def there() -> bool:
        return (persist is None or bool(persist.pid)) and archive.indexed() >= messages

    wait_until(there, seconds, f"{messages} in the index", pause=0.5)


def check_exact(archive: Archive, topic: Topic, *, positions: bool = True) -> None:
    """Each message is once in the lake and once in the index, which points at its row.

    Args:
        positions: they follow from the numbers; transactions leave markers between them.
    """
    rows = archive.messages().sort_by("id")
    assert len(rows) == topic.count
    assert not positions or rows["id"].to_pylist() == topic.ids()
    assert numbers(rows) == list(range(topic.count))
    places = rows.select(["id", "checksum", "location", "position"])
    entries = archive.entries().sort_by("id").select(places.column_names).cast(places.schema)
    assert entries.equals(places), "the index is not what the lake is"


def numbers(rows: pa.Table) -> list[int]:
    """The numbers in the messages' data, sorted."""
    texts = pc.utf8_trim_whitespace(rows["data"].cast(pa.string()))
    return sorted(texts.cast(pa.int64()).to_pylist())
