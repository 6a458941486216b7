"""Retention on real servers: reading goes on from wherever it had come to, and no crash spoils anything."""

from __future__ import annotations

import uuid
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests._reading import ids, reading, values
from tests.integration.harness import Archive, Persist, committed, log_of
from tests.integration.load import load_message
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB
from tests.servers.seaweed import Seaweed
from tests.unit.test_expire import AT_ONCE, BEFORE, check_kills_between_any_two_steps, everything, stored
from transforms.indexes import mongodb as mongo
from transforms.indexes import sqlite
from transforms.lake import AccessDeniedError, Lake
from transforms.maintenance.expire import Expired, expire
from transforms.maintenance.rebuild import rebuild
from transforms.reading.buffers import Limits
from transforms.reading.claims import Chain, Claims
from transforms.reading.source import Source


@pytest.fixture
def topic() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


def _expire_everything(lake: Lake) -> Expired:
    return expire(lake, None, datetime.now(timezone.utc), **AT_ONCE)


def _archived(kafka: Kafka, topic: str, source: Source) -> None:
    """Forty messages in four claimed batches, acknowledged but for the last."""
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 30))
    with reading(source) as read:
        read.until(30)
        read.acknowledge()
        kafka.produce(topic, values(30, 40))
        read.until(40)


@pytest.fixture
def source(kafka: Kafka, topic: str, tmp_path: Path) -> Source:
    limits = Limits(messages=10, bytes=2**20, age=0.3)
    return Source(f"{kafka.url}/{topic}", lake=f"file://{tmp_path}/lake", limits=limits, purpose=topic)


def test_without_the_groups_offsets_reading_goes_on_behind_what_expired(
    kafka: Kafka, topic: str, source: Source
) -> None:
    _archived(kafka, topic, source)
    lake = Lake(source.lake or "")
    assert _expire_everything(lake).claims == 3
    kafka.delete_group(source.group)
    with reading(source) as read:
        read.until(10)
        kafka.produce(topic, values(40, 45))
        read.until(15)
    assert read.ids == ids(topic, 30, 45)


def test_a_position_that_was_saved_before_the_expiry_skips_to_the_claims_that_stayed(
    kafka: Kafka, topic: str, source: Source
) -> None:
    _archived(kafka, topic, source)
    lake = Lake(source.lake or "")
    _expire_everything(lake)
    with reading(source) as read:
        read.saved = {f"{topic}~1/0": 10}
        read.until(10)
        kafka.produce(topic, values(40, 45))
        read.until(15)
    assert read.ids == ids(topic, 30, 45)
    ahead = Claims(lake).ahead(Chain(topic, 1, 0), 10)
    assert [(start, claim.next, claim.rows) for start, claim in ahead.items()] == [
        (30, 40, 10),
        (40, 45, 5),
    ]


def test_a_running_job_an_expiry_and_a_restart_leave_lake_and_index_in_step(
    kafka: Kafka, mongodb: MongoDB, topic: str, tmp_path: Path
) -> None:
    kafka.create_topic(topic, partitions=3, **{"retention.ms": -1})
    archive = Archive(Lake(f"file://{tmp_path}/lake"), f"{mongodb.url}.{topic}")
    persist = Persist(
        tmp_path / "persist", source=f"{kafka.url}/{topic}", lake=archive.lake.url, index=archive.index_url
    )
    old = [{**load_message(n), "partition": n % 3, "timestamp": 1_600_000_000_000 + n} for n in range(3000)]
    new = [{**load_message(n), "partition": n % 3} for n in range(3000, 6000)]
    with persist:
        kafka.produce(topic, old[:2000])
        wait_until(lambda: bool(persist.pid) and archive.indexed() == 2000, 90, "the old messages")
        kafka.produce(topic, [*old[2000:], *new[:1000]])
        wait_until(lambda: bool(persist.pid) and archive.indexed() == 4000, 90, "the first new messages")
        # What is not acknowledged is read, and archived, again after the kill.
        wait_until(lambda: committed(kafka, topic, archive) == 4000, 60, "the acknowledgements")
        index = archive.open_index()
        report = expire(archive.lake, index, datetime(2021, 1, 1, tzinfo=timezone.utc), **AT_ONCE)
        assert report.messages == report.entries == 4000 - archive.indexed()
        assert 2000 <= report.messages <= 3000
        assert report.claims > 0
        persist.kill()
        persist.start()
        kafka.produce(topic, new[1000:])
        wait_until(
            lambda: bool(persist.pid) and archive.indexed() == 6000 - report.messages,
            90,
            "the other messages",
        )
        persist.drain()
    index.close()
    ids = archive.messages()["id"].to_pylist()
    assert len(ids) == len(set(ids)) == 6000 - report.messages
    wanted = {place for place, message in log_of(kafka, topic).items() if message[3] > 1_700_000_000_000}
    assert {f"{topic}_{partition}_{offset}" for partition, offset in wanted} <= set(ids)
    _check_rebuilt(archive, tmp_path)


def _check_rebuilt(archive: Archive, tmp_path: Path) -> None:
    rebuilt = sqlite.open(f"sqlite://{tmp_path}/rebuilt.db")
    assert rebuild(archive.lake, rebuilt, datetime.now(timezone.utc)).exit_code == 0
    again = Archive(archive.lake, f"sqlite://{tmp_path}/rebuilt.db")
    order = [("id", "ascending")]
    assert again.entries().sort_by(order) == archive.entries().sort_by(order)
    rebuilt.close()


def test_a_kill_between_any_two_steps_on_an_object_store_and_mongodb(
    seaweed: Seaweed, mongodb: MongoDB, topic: str, tmp_path: Path
) -> None:
    lake = Lake(f"{seaweed.create_bucket(topic)}/lake", seaweed.config)
    url = f"{mongodb.url}.{topic}"
    with closing(mongo.open(url)) as index:
        check_kills_between_any_two_steps(lake, index, url, tmp_path)


def test_a_store_that_refuses_to_delete_costs_the_index_nothing(
    seaweed: Seaweed, mongodb: MongoDB, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = seaweed.create_bucket(topic)
    with closing(mongo.open(f"{mongodb.url}.{topic}")) as index:
        stored(Lake(url, seaweed.config), index)
        seaweed.allow(topic, "ListBucket", "GetBucketLocation", "GetObject")
        monkeypatch.setattr("transforms.maintenance.patience._PATIENCE", 1.0)
        reader = Lake(url, seaweed.guest_config)
        with pytest.raises(AccessDeniedError):
            expire(reader, index, BEFORE, **AT_ONCE)
        assert len(everything(index)) == 480
