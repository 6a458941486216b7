"""Batches that the client cannot read: on a real Kafka, damaged on the broker's disk or very large."""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError
from prometheus_client import REGISTRY

from pipelines.doctor import examine
from pipelines.settings.parsing import parse
from pipelines.settings.streaming import PersistSettings
from tests._reading import DEADLINE, Reading, reading
from tests.integration.harness import Archive, Persist, log_of
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from transforms.brokers.kafka.reader import KafkaReader
from transforms.dead_letters import dead_messages
from transforms.errors import PermanentError
from transforms.lake import Lake
from transforms.model import DeadLetter
from transforms.reading.buffers import Limits
from transforms.reading.claims import Claims
from transforms.reading.source import Source
from transforms.replay.restoring import restore
from transforms.writing import BatchWriter

_IN_ONE = {"batch.size": 100_000_000, "message.max.bytes": 100_000_000, "linger.ms": 2000}


@pytest.fixture
def topic() -> str:
    return f"u{uuid.uuid4().hex[:10]}"


@pytest.fixture
def source(kafka: Kafka, topic: str, tmp_path: Path) -> Source:
    limits = Limits(messages=10, age=0.3)
    lake = f"file://{tmp_path}/lake"
    return Source(f"{kafka.url}/{topic}", lake=lake, limits=limits, purpose=lake)


def produce(kafka: Kafka, topic: str, values: list[bytes], partition: int = 0, codec: str = "none") -> None:
    """One batch."""
    messages: list[dict[str, Any]] = [{"value": value, "partition": partition} for value in values]
    kafka.produce(topic, messages, {**_IN_ONE, "compression.type": codec})


def damage(kafka: Kafka, topic: str, value: bytes | None = None) -> None:
    """Overwrite a part of the last batch of partition 0 on the disk, or a value that it holds."""
    [log] = (kafka.data / "logs" / f"{topic}-0").glob("*.log")
    stored = log.read_bytes()
    at = stored.index(value) if value else len(stored.rstrip(b"\0")) - 200
    with log.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * (len(value) if value else 150))


def ids(topic: str, start: int, end: int, partition: int = 0) -> list[str]:
    return [f"{topic}_{partition}_{offset}" for offset in range(start, end)]


def counted(topic: str, name: str = "persistor_partition_errors_total") -> dict[tuple[str, str], float]:
    """Failed reads by partition and code."""
    samples = [s for metric in REGISTRY.collect() for s in metric.samples]
    return {
        (s.labels["partition"], s.labels["code"]): s.value
        for s in samples
        if s.name == name and s.labels["source"] == topic
    }


def blocked(topic: str) -> list[float]:
    """What the gauge shows of the topic's partitions."""
    return list(counted(topic, "persistor_partition_blocked").values())


def stands_still(opened: Reading, topic: str) -> bool:
    opened.turn()
    return sum(counted(topic).values()) >= 3


def test_a_small_batch_of_large_messages_is_read(kafka: Kafka, topic: str, source: Source) -> None:
    kafka.create_topic(topic)
    produce(kafka, topic, [b"before"] * 5)
    produce(kafka, topic, [b"x" * 1_000_000] * 70, codec="zstd")
    produce(kafka, topic, [b"behind"] * 5)
    with reading(source) as opened:
        opened.until(80)
    assert opened.ids == ids(topic, 0, 80)


@pytest.mark.parametrize("codec", ["none", "lz4", "gzip", "zstd", "snappy"])
def test_a_partition_with_a_damaged_batch_says_so_while_its_neighbour_goes_on(
    codec: str, kafka: Kafka, topic: str, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    kafka.create_topic(topic, 2)
    produce(kafka, topic, [b"before"] * 5)
    produce(kafka, topic, [b"%d-" % number + uuid.uuid4().hex.encode() for number in range(50)], codec=codec)
    damage(kafka, topic)
    produce(kafka, topic, [b"behind"] * 5)
    with caplog.at_level(logging.WARNING), reading(source) as opened:
        wait_until(lambda: stands_still(opened, topic), 2 * DEADLINE, "errors of the partition")
        produce(kafka, topic, [b"neighbour"] * 5, partition=1)
        opened.until(10)
        assert opened.shard.lag() == 55
    assert sorted(opened.ids) == ids(topic, 0, 5) + ids(topic, 0, 5, partition=1)
    [line] = [r.getMessage() for r in caplog.records if f"cannot read {topic}" in r.getMessage()]
    assert f"cannot read {topic} partition 0 from offset 5 on" in line
    [(partition, code)] = counted(topic)
    assert (partition, code in line) == ("0", True)


def test_a_partition_that_can_be_read_again_goes_on_behind_what_was_read(
    kafka: Kafka, topic: str, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    kafka.create_topic(topic)
    produce(kafka, topic, [b"before"] * 5)
    produce(kafka, topic, [b"the one that is damaged"])
    produce(kafka, topic, [b"behind"] * 5)
    damage(kafka, topic, b"the one that is damaged")
    with caplog.at_level(logging.WARNING), reading(source) as opened:
        wait_until(lambda: stands_still(opened, topic), 2 * DEADLINE, "errors of the partition")
        assert blocked(topic) == [1]
        [log] = (kafka.data / "logs" / f"{topic}-0").glob("*.log")
        log.write_bytes(log.read_bytes().replace(b"\xa5" * 23, b"the one that is damaged"))
        opened.until(11)
        assert blocked(topic) == [0]
    assert opened.ids == ids(topic, 0, 11)
    assert f"{topic} partition 0 continues after" in caplog.text


@pytest.mark.parametrize("how", ["deleted", "closed"])
def test_a_partition_that_is_not_read_any_more_does_not_count_as_blocked(
    how: str, kafka: Kafka, topic: str, source: Source
) -> None:
    kafka.create_topic(topic)
    produce(kafka, topic, [b"%d" % number * 100 for number in range(50)])
    damage(kafka, topic)
    with reading(source) as opened:
        wait_until(lambda: stands_still(opened, topic), 2 * DEADLINE, "errors of the partition")
        if how == "deleted":
            admin = kafka.admin()
            admin.delete_topics([topic])[topic].result(30)
            wait_until(lambda: (opened.turn(), blocked(topic) == [0])[1], 2 * DEADLINE, "the end of it")
    assert blocked(topic) == [0]


def test_what_cannot_be_read_is_given_up_where_that_is_said_and_named_in_a_claim_and_a_dead_letter(
    kafka: Kafka, topic: str, source: Source, tmp_path: Path
) -> None:
    kafka.create_topic(topic)
    produce(kafka, topic, [b"before"] * 5)
    produce(kafka, topic, [b"%d" % number * 100 for number in range(50)], codec="lz4")
    damage(kafka, topic)
    produce(kafka, topic, [b"behind"] * 5)
    skipping = replace(source, skip=((topic, 0, 5, 54), (topic, 0, 55, 59)))
    with reading(skipping) as opened:
        opened.until(10)
        [track] = opened.shard._assignment.tracks.values()
    assert opened.ids == ids(topic, 0, 5) + ids(topic, 55, 60)
    hole = Claims(Lake(f"file://{tmp_path}/lake")).ahead(track.chain, 0)[5]
    assert (hole.next, hole.rows) == (55, 0)
    assert f"{topic} partition 0, offsets 5 to 54, could not be read" in str(hole.lost)
    assert lost(topic) == 50
    letter = dead_letter(opened, tmp_path)
    assert (letter.stage, letter.category, letter.reason) == ("read", "lost", hole.lost)
    assert restore(dead_messages(letter), [])[1] == {0: "it stands for messages that are lost"}
    [row] = letter.messages.to_pylist()
    assert (row["id"], row["offset"], row["data"]) == (f"{topic}_0_5", 5, None)
    with reading(source) as again:  # from the claims on, without being told what to skip
        again.until(10)
    assert again.ids == opened.ids
    assert dead_letter(again, tmp_path).reason == letter.reason


def test_the_command_says_what_it_leaves_behind_and_goes_on_where_a_setting_says_what_to_skip(
    kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    kafka.create_topic(topic)
    kafka.create_topic(f"{topic}-dead")
    produce(kafka, topic, [b"before"] * 5)
    produce(kafka, topic, [b"%d" % number * 100 for number in range(50)], codec="zstd")
    damage(kafka, topic)
    produce(kafka, topic, [b"behind"] * 5)
    lake, index = f"file://{tmp_path}/lake", f"sqlite://{tmp_path}/index.db"
    archived = Archive(Lake(lake), index)
    options = {"source": f"{kafka.url}/{topic}", "lake": lake, "index": index}
    with Persist(tmp_path / "log", **options) as job:
        wait_until(lambda: archived.indexed() == 5 and "cannot read" in job.output(), 60, "the standstill")
        job.drain()
        assert f"is archived; 55 messages wait at the broker ({topic} 55)." in job.output()
    said = list(examine(parse(PersistSettings, [f"--{name}={value}" for name, value in options.items()])[0]))
    [finding] = [one for one in said if one.what == "reading"]
    assert f"{topic} partition 0 cannot be read from offset 5 on" in finding.said
    assert f"--skip {topic}/0/5-54 gives it up" in finding.remedy
    dead = f"{kafka.url}/{topic}-dead"
    with Persist(tmp_path / "again", **options, skip=f"{topic}/0/5-54", dead_letter=dead) as job:
        wait_until(lambda: bool(job.pid) and archived.indexed() == 10, 60, "what lies behind")
        job.drain()
        assert job.output().endswith("Every message that was read is archived or a dead letter.\n")
    [(key, value, headers, _)] = log_of(kafka, f"{topic}-dead").values()
    why = {name: text.decode() for name, text in headers}
    assert (key, value, why["persistor-error-category"]) == (None, None, "lost")
    assert f"{topic} partition 0, offsets 5 to 54, could not be read" in why["persistor-error-reason"]


def lost(topic: str) -> float | None:
    return REGISTRY.get_sample_value("persistor_gap_messages_total", {"source": topic})


def dead_letter(opened: Reading, tmp_path: Path) -> DeadLetter:
    [batch] = [batch for batch in opened.batches if batch.lost is not None]
    lake = Lake(f"file://{tmp_path}/lake")
    files, [letter] = BatchWriter(lake, dead_letters=True).write(batch)
    assert files == BatchWriter(lake).write(batch)[1] == []
    assert letter.messages.num_rows == 1
    return letter


def test_a_client_that_has_failed_for_good_ends_the_job(kafka: Kafka, topic: str, source: Source) -> None:
    kafka.create_topic(topic)
    with reading(source) as opened:
        opened.turn()
        reader = opened.shard._reader
        assert isinstance(reader, KafkaReader)
        reader.note_error(KafkaError(KafkaError._FATAL, "fenced", fatal=True))
        with pytest.raises(PermanentError, match="failed permanently: fenced"):
            opened.turn()
