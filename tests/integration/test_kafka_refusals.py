"""Messages that a Kafka topic refuses: they are named, the others arrive in order, nothing hangs."""

from __future__ import annotations

import random
import time
from typing import Any

import pyarrow as pa
import pytest

from tests._archive import archive
from tests._messages import row, table
from tests._replay import consumed, expected, freeze
from tests.servers.kafka import Kafka
from transforms.brokers import PublishOptions
from transforms.brokers import kafka as broker
from transforms.errors import ConfigurationError
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.replay import replay_lane
from transforms.replay.ledger import Ledger

NOW_US = time.time_ns() // 1_000_000_000 * 1_000_000


def some(count: int, size: int, large: dict[int, int]) -> pa.Table:
    """Messages of some size that cannot be compressed, a few of another."""
    chance = random.Random(1)
    data = (chance.randbytes(large.get(n, size)) for n in range(count))
    return table(
        *[
            row(id=f"orders_0_{n}", offset=n, key=b"%d" % n, data=one, publish_time=NOW_US)
            for n, one in enumerate(data)
        ]
    )


@pytest.mark.parametrize("name", [None, "lane"])
@pytest.mark.parametrize(("count", "large"), [(10, 3), (10, 9), (3000, 1500), (3000, 2999)])
def test_one_message_that_is_too_large_is_named_and_the_others_arrive_in_order(
    kafka: Kafka, name: str | None, count: int, large: int
) -> None:
    topic = kafka.create_topic(f"refusing-{name}-{count}-{large}", 1)
    sent = some(count, 200, {large: 1_500_000})
    publisher = broker.open_publisher(f"{kafka.url}/{topic}", {}, name=name and f"{topic}-{name}")
    publisher.begin()
    for start in range(0, count, 1000):
        publisher.send(sent.slice(start, 1000), PublishOptions())
    undelivered = publisher.commit(count)
    publisher.close()
    assert [one.id for one in undelivered] == [sent["id"][large].as_py()]
    others = sent.filter(pa.array([n != large for n in range(count)]))
    assert consumed(kafka, topic) == expected(others)


@pytest.mark.parametrize("name", [None, "lane"])
def test_batches_are_no_larger_than_the_topic_takes(kafka: Kafka, name: str | None) -> None:
    topic = kafka.create_topic(f"narrow-{name}", 1, **{"max.message.bytes": 20_000})
    sent = some(3000, 1000, {})
    publisher = broker.open_publisher(f"{kafka.url}/{topic}", {}, name=name and f"{topic}-{name}")
    publisher.begin()
    publisher.send(sent, PublishOptions())
    assert publisher.commit(3000) == []
    publisher.close()
    assert consumed(kafka, topic) == expected(sent)


def test_what_was_refused_just_before_a_crash_does_not_count_as_published(
    kafka: Kafka, lake: Lake, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    write = Ledger.write

    def dies(self: Ledger, tally: Any, *more: Any) -> None:
        if tally.done:
            raise KilledError  # between Kafka's commit and what the lake keeps of it
        write(self, tally, *more)

    archive(lake, index, some(10, 20, {3: 1_500_000}))
    topic = kafka.create_topic("crashed", 1)
    url = f"{kafka.url}/{topic}"
    plan = freeze(lake, index, url, lossy=True)
    [lane] = plan.lanes
    monkeypatch.setattr(Ledger, "write", dies)
    publisher = broker.open_publisher(url, {}, name=f"{plan.job}-{lane}")
    with pytest.raises(KilledError):
        replay_lane(plan, lane, [lake], publisher)
    publisher.close()
    monkeypatch.undo()
    publisher = broker.open_publisher(url, {}, name=f"{plan.job}-{lane}")
    report = replay_lane(plan, lane, [lake], publisher)
    publisher.close()
    assert (report.already_published, report.published, report.failed) == (9, 0, {"undelivered": 1})
    assert (report.exit_code, [error.id for error in report.errors]) == (1, ["orders_0_3"])
    assert len(consumed(kafka, topic)) == 9


def test_a_lossy_job_sends_all_but_what_the_topic_refuses(kafka: Kafka, lake: Lake, index: Index) -> None:
    sent = some(20_000, 90, {200: 1_500_000, 15_000: 1_500_000})
    archive(lake, index, sent)
    topic = kafka.create_topic("lossy", 1)
    url = f"{kafka.url}/{topic}"
    plan = freeze(lake, index, url, lossy=True)
    [lane] = plan.lanes
    publisher = broker.open_publisher(url, {}, name=f"{plan.job}-{lane}")
    report = replay_lane(plan, lane, [lake], publisher)
    publisher.close()
    assert (report.published, report.failed) == (19_998, {"undelivered": 2})
    others = sent.filter(pa.array([n not in {200, 15_000} for n in range(20_000)]))
    assert consumed(kafka, topic) == expected(others)


@pytest.mark.parametrize("name", [None, "lane"])
def test_of_equal_messages_only_the_one_that_is_refused_is_named(kafka: Kafka, name: str | None) -> None:
    topic = kafka.create_topic(f"equal-{name}", 2, **{"message.timestamp.before.max.ms": 3_600_000})
    fates = {"innocent": (0, NOW_US), "old": (1, NOW_US - 2 * 3_600_000_000), "later": (0, NOW_US)}
    sent = table(
        *[
            row(id=id, partition=partition, key=b"k", data=b"{}", publish_time=time_us)
            for id, (partition, time_us) in fates.items()
        ]
    )
    publisher = broker.open_publisher(f"{kafka.url}/{topic}", {}, name=name and f"{topic}-{name}")
    publisher.begin()
    publisher.send(sent, PublishOptions())
    undelivered = publisher.commit(3)
    publisher.close()
    assert [one.id for one in undelivered] == ["old"]
    assert len(consumed(kafka, topic, 2)) == 2


def test_in_a_transaction_the_equals_of_a_refused_message_arrive_in_order(kafka: Kafka) -> None:
    topic = kafka.create_topic("equal-in-one", 1, **{"message.timestamp.before.max.ms": 3_600_000})
    old = NOW_US - 2 * 3_600_000_000
    sent = table(
        *[
            row(id=f"{n}", key=b"k", data=b"{}" if n < 6 else b"end", publish_time=old if n == 2 else NOW_US)
            for n in range(7)
        ]
    )
    publisher = broker.open_publisher(f"{kafka.url}/{topic}", {}, name=topic)
    publisher.begin()
    publisher.send(sent.slice(0, 4), PublishOptions())
    publisher.send(sent.slice(4), PublishOptions())
    undelivered = publisher.commit(7)
    publisher.close()
    assert [one.id for one in undelivered] == ["2"]
    assert consumed(kafka, topic) == expected(sent.filter(pa.array([n != 2 for n in range(7)])))


def test_a_transaction_longer_than_the_brokers_allow_is_refused_with_advice(kafka: Kafka) -> None:
    topic = kafka.create_topic("too-long", 1)
    config = {"transaction.timeout.ms": "2000000000"}
    publisher = broker.open_publisher(f"{kafka.url}/{topic}", config, name=topic)
    with pytest.raises(ConfigurationError, match=r"transaction\.max\.timeout\.ms"):
        publisher.begin()
    publisher.close()
