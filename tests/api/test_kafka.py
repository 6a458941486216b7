"""Sending messages again to Kafka through the running service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from tests._archive import archive
from tests._brokers import fetch, reading, together
from tests.api.conftest import Client, Site, order
from tests.api.test_resubmissions import body, ended, resubmit
from tests.servers.kafka import Kafka
from transforms.brokers import Partition
from transforms.brokers.kafka.reader import open_reader
from transforms.replay.plans import new_job_id


@pytest.fixture
def api(site: Site, kafka: Kafka) -> Iterator[Client]:
    with site.serve({"main": kafka.url}, inline_limit=100) as client:
        yield client


@pytest.fixture
def topic(kafka: Kafka) -> str:
    return kafka.create_topic(f"t{new_job_id()}", partitions=2)


def recent(offset: int, **values: Any) -> dict[str, Any]:
    now = time.time_ns() // 1_000_000 * 1000
    return order(offset, **{"publish_time": now - 3_600_000_000 + offset * 1000, **values})


def read(kafka: Kafka, topic: str, partition: int) -> list[Message]:
    """What a read-committed consumer sees."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "t",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0)])
    found: list[Message] = []
    while (message := consumer.poll(30)) is not None and not message.error():
        found.append(message)
    assert message is not None, "no end of the partition"
    consumer.close()
    return found


def test_a_message_arrives_as_it_was(site: Site, api: Client, kafka: Kafka, topic: str) -> None:
    headers = [{"name": "a", "value": b"1"}, {"name": "a", "value": None}, {"name": "b", "value": b"\xff"}]
    row = recent(7, partition=1, key=b"\xfe", data=None, headers=headers)
    site.archive(row)
    assert resubmit(api, topic, {"ids": ["orders_1_7"]})["state"] == "COMPLETED"
    [sent] = read(kafka, topic, 1)
    assert (sent.key(), sent.value()) == (b"\xfe", None)
    assert sent.headers() == [("a", b"1"), ("a", None), ("b", b"\xff")]
    assert sent.timestamp()[1] * 1000 == row["publish_time"]


def test_a_large_selection_arrives_once_and_in_order(
    site: Site, api: Client, kafka: Kafka, topic: str
) -> None:
    site.archive(*(recent(n) for n in range(3000)), rows_per_file=500)
    site.archive(*(recent(n, partition=1) for n in range(200)))
    job = ended(api, resubmit(api, topic))
    assert (job["state"], job["mode"], job["reason"]) == ("COMPLETED", "job", None)
    assert job["progress"]["sources"] == {"orders": {"planned": 3200, "published": 3200, "failed": 0}}
    assert job["plan"]["deduplication"].startswith("exactly once")
    assert [m.value() for m in read(kafka, topic, 0)] == [b"order %d" % n for n in range(3000)]
    assert len(read(kafka, topic, 1)) == 200


def test_a_time_that_no_calendar_has_is_archived_shown_and_sent_again(
    site: Site, api: Client, kafka: Kafka
) -> None:
    forever = {"message.timestamp.after.max.ms": str((1 << 63) - 1), "retention.ms": "-1"}
    origin, topic = (kafka.create_topic(f"t{new_job_id()}", **forever) for _ in range(2))
    times = [253_402_300_800_000, 10**15, (1 << 63) - 1]
    kafka.produce(origin, ({"value": b"%d" % time, "timestamp": time} for time in times))
    with reading(open_reader(f"{kafka.url}/{origin}", {}, group=origin), {Partition(origin, 0): 0}) as reader:
        messages = together(fetch(reader, 3))
    unsummed = messages.append_column("checksum", pa.nulls(3, pa.int64()))
    archive(site.lake, site.index, unsummed)
    shown = api.post("/v1/messages/search", json={"selection": {"all": True}}).json()["messages"]
    assert [m["publish_time"] for m in shown] == ["9999-12-31T23:59:59.999999Z"] * 3
    refused = api.post("/v1/resubmissions", json=body(topic, {"all": True}))
    assert "1 times behind the year 294247" in refused.text
    assert resubmit(api, topic, {"all": True}, options={"lossy": True})["state"] == "COMPLETED"
    latest = ((1 << 63) - 1) // 1000
    assert [m.timestamp()[1] for m in read(kafka, topic, 0)] == [*times[:2], latest]


def test_a_topic_that_is_not_there_is_not_made(site: Site, api: Client, kafka: Kafka) -> None:
    site.archive(recent(0))
    name = f"missing-{new_job_id()}"
    for address in ("/v1/plans", "/v1/resubmissions"):
        response = api.post(address, json=body(name))
        assert response.status_code == 422
        assert f"Kafka topic '{name}' does not exist" in response.json()["detail"]
    assert name not in kafka.admin().list_topics(timeout=10).topics


def test_what_retention_would_delete_is_refused_unless_it_is_sent_as_of_now(
    site: Site, api: Client, kafka: Kafka, topic: str
) -> None:
    site.archive(order(0))
    response = api.post("/v1/resubmissions", json=body(topic))
    assert response.status_code == 422
    assert 'use "timestamp": "now"' in response.json()["detail"]
    job = resubmit(api, topic, options={"timestamp": "now"})
    assert job["state"] == "COMPLETED"
    [sent] = read(kafka, topic, 0) + read(kafka, topic, 1)  # without a key it may be either
    assert abs(sent.timestamp()[1] / 1000 - time.time()) < 60
