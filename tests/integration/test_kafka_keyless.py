"""Messages without a key on their way to another number of partitions, and to a compacted topic."""

from __future__ import annotations

import re
import time

import pyarrow as pa
import pytest

from tests._archive import archive
from tests._messages import row, table
from tests._replay import consumed, freeze
from tests.servers.kafka import Kafka
from transforms.brokers import PublishOptions, Undelivered
from transforms.brokers import kafka as broker
from transforms.errors import ConfigurationError
from transforms.indexes import Index
from transforms.lake import Lake

NOW_US = time.time_ns() // 1_000_000_000 * 1_000_000
MESSAGES = 300


def messages(partition: int, key: bytes | None = None) -> pa.Table:
    rows = (
        row(
            id=f"orders_{partition}_{n}",
            partition=partition,
            offset=n,
            key=key,
            data=b"%d %d" % (partition, n),
            publish_time=NOW_US,
        )
        for n in range(MESSAGES)
    )
    return table(*rows)


def publish(kafka: Kafka, topic: str, name: str | None, sent: list[pa.Table]) -> list[Undelivered]:
    publisher = broker.open_publisher(f"{kafka.url}/{topic}", {}, name=name and f"{topic}-{name}")
    publisher.begin()
    for one in sent:
        publisher.send(one, PublishOptions(partitions="key"))
    undelivered = publisher.commit(sum(map(len, sent)))
    publisher.close()
    return undelivered


@pytest.mark.parametrize("name", [None, "lane"])
def test_without_keys_a_partitions_messages_stay_together_in_order(kafka: Kafka, name: str | None) -> None:
    topic = kafka.create_topic(f"fewer-{name}", 2)
    assert publish(kafka, topic, name, [messages(partition) for partition in range(6)]) == []
    found = [(message[0], *map(int, message[2].split())) for message in consumed(kafka, topic, 2)]
    for partition in range(6):
        sent = [one for one in found if one[1] == partition]
        assert sent == [(partition % 2, partition, n) for n in range(MESSAGES)]


def test_a_compacted_topic_refuses_them_by_name_and_takes_the_others(kafka: Kafka) -> None:
    topic = kafka.create_topic("compacted", 3, cleanup_policy="compact", segment_ms=3_600_000)
    publisher = broker.open_publisher(f"{kafka.url}/{topic}", {})
    publisher.begin()
    for sent in (messages(0), messages(1, b"k")):
        publisher.send(sent, PublishOptions())
    undelivered = publisher.commit(2 * MESSAGES)
    # One that has refused messages goes on with others.
    publisher.send(messages(2, b"k"), PublishOptions())
    assert publisher.commit(MESSAGES) == []
    publisher.close()
    assert len(consumed(kafka, topic, 3)) == 2 * MESSAGES
    assert len(undelivered) == MESSAGES
    assert undelivered[0].id == "orders_0_0"
    assert undelivered[0].reason.endswith("it has no key, and a compacted topic refuses such messages")


def test_a_plan_counts_them(kafka: Kafka, lake: Lake, index: Index) -> None:
    topic = kafka.create_topic("to-be-compacted", 1, cleanup_policy="compact,delete")
    archive(lake, index, messages(0))
    archive(lake, index, messages(1, b"k"))
    url = f"{kafka.url}/{topic}"
    words = "messages without a key, which a compacted topic refuses (not sent if lossy)"
    with pytest.raises(ConfigurationError, match=re.escape(f"cannot carry {MESSAGES} {words}")):
        freeze(lake, index, url)
    assert freeze(lake, index, url, lossy=True).cannot_carry == {words: MESSAGES}
