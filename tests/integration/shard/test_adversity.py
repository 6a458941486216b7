"""The reading engine on a real Kafka where topics vanish and messages are made to do harm."""

from __future__ import annotations

import uuid
from dataclasses import replace
from threading import Thread
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message
from prometheus_client import REGISTRY

from tests._reading import DEADLINE, Reading, reading, values
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from tests.servers.kafka_raw import produce_raw
from tests.servers.seaweed import Seaweed
from transforms.brokers.kafka.reader import KafkaReader
from transforms.brokers.kafka.records import Run
from transforms.dead_letters import dead_messages
from transforms.errors import ConfigurationError, PermanentError
from transforms.lake import Lake
from transforms.model import Batch, Layout
from transforms.reading import assignment
from transforms.reading.buffers import Limits
from transforms.reading.shard import Shard
from transforms.reading.source import Source
from transforms.writing import BatchWriter


@pytest.fixture
def topic(kafka: Kafka) -> str:
    """A topic that is there."""
    return kafka.create_topic(f"t{uuid.uuid4().hex[:10]}")


def _made_anew(kafka: Kafka, topic: str, messages: list[dict[str, bytes]]) -> None:
    kafka.delete_topic(topic)
    kafka.create_topic(topic)
    kafka.produce(topic, messages)


def test_a_late_acknowledgement_of_a_deleted_topic_is_not_believed_of_its_successor(
    kafka: Kafka, topic: str, source: Source
) -> None:
    kafka.produce(topic, values(0, 10))
    crashing = Reading(source).until(10)
    _made_anew(kafka, topic, values(10, 20))
    crashing.acknowledge()  # Kafka takes it for the new topic, of which it knows the name only
    crashing.until(20)  # the same range of the new topic is claimed, and nothing is written
    crashing.shard._assignment.close()
    crashing.shard._reader.close()
    with reading(source) as again:
        again.until(10)
    assert again.ids == [f"{topic}~2_0_{offset}" for offset in range(10)]


@pytest.mark.parametrize("claims", [True, False])
@pytest.mark.parametrize("again", [5, 10, 30])
def test_a_topic_made_anew_is_read_from_its_start_however_far_the_old_one_was(
    kafka: Kafka, topic: str, source: Source, again: int, claims: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka.produce(topic, values(0, 10))
    with reading(source if claims else replace(source, lake=None)) as opened:
        opened.until(10).acknowledge()
        _made_anew(kafka, topic, values(10, 10 + again))
        # It is found before anything is read: the client may still tell what became of the old one.
        monkeypatch.setattr(assignment, "_DISCOVER_EVERY", 0.0)
        opened.until(10 + again)
    read = [value for batch in opened.batches for value in batch.messages["data"].to_pylist()]
    assert read == [b"%d" % number for number in range(10 + again)]


@pytest.mark.parametrize("format", ["parquet", "avro", "jsonl"])
def test_a_message_whose_headers_cannot_be_read_is_a_dead_letter_and_the_rest_is_archived(
    kafka: Kafka, topic: str, source: Source, format: str
) -> None:
    kafka.produce(topic, [{"value": b"before", "headers": [("a", b"1")]}])
    produce_raw(kafka, topic, b"harmful", [(b"b", b"2"), (b"\xff\xfe", b"3")], 1_700_000_000_000)
    kafka.produce(topic, [{"value": b"after"}])
    source = replace(source, layout=Layout("{topic}/{header[b]}", format))
    with reading(source) as opened:
        opened.until(3)
    lake = Lake(str(source.lake))
    with pytest.raises(PermanentError, match=r"cannot read headers.*`dead_letter`"):
        [BatchWriter(lake).write(batch) for batch in opened.batches]
    outcomes = [BatchWriter(lake, dead_letters=True).write(batch) for batch in opened.batches]
    entries = [row for files, _ in outcomes for file in files for row in file.entries.to_pylist()]
    assert [row["id"] for row in entries] == [f"{topic}_0_0", f"{topic}_0_2"]
    [letter] = [letter for _, dead in outcomes for letter in dead]
    [sent] = dead_messages(letter).to_pylist()
    assert (sent["data"], letter.messages["id"].to_pylist()) == (b"harmful", [f"{topic}_0_1"])


@pytest.mark.parametrize("written", [2, 1])
def test_files_of_a_topic_that_was_deleted_before_they_were_entered_are_entered_at_the_next_start(
    kafka: Kafka, topic: str, source: Source, written: int
) -> None:
    kafka.produce(topic, values(0, 10))
    writer = BatchWriter(Lake(str(source.lake)))
    with reading(source) as crashed:
        crashed.until(10).acknowledge()
        kafka.produce(topic, values(10, 30))
        crashed.until(30)
        left = _entries(writer, crashed.batches[1 : 1 + written])
    _made_anew(kafka, topic, values(0, 5))
    for _ in range(2):  # nothing of the new topic is acknowledged, so the second start does it again
        with reading(source) as again:
            again.until(5)
        assert _entries(writer, again.batches) == left | {f"{topic}~2_0_{offset}" for offset in range(5)}
        assert [batch.claimed for batch in again.batches if batch.incarnation == 1] == [10, 10]
    with reading(source) as last:
        last.until(5).acknowledge()
    kafka.produce(topic, values(5, 6))
    with reading(source) as after:
        after.until(1)
    assert {batch.incarnation for batch in after.batches} == {2}


def _entries(writer: BatchWriter, batches: list[Batch]) -> set[str]:
    return {
        id for batch in batches for file in writer.write(batch)[0] for id in file.entries["id"].to_pylist()
    }


def test_nothing_of_a_deleted_topic_is_reported_open_for_ever(
    kafka: Kafka, topic: str, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignment, "_DISCOVER_EVERY", 0.0)
    kafka.produce(topic, values(0, 5))

    def told(name: str) -> float | None:
        return REGISTRY.get_sample_value(f"persistor_{name}", {"source": topic})

    with reading(replace(source, limits=Limits(age=3600))) as opened:
        wait_until(lambda: opened.turn() == [] and opened.open_rows == 5, DEADLINE, "all read")
        assert told("oldest_unarchived_seconds")
        kafka.delete_topic(topic)
        wait_until(lambda: opened.turn() == [] and not opened.open_rows, DEADLINE, "the rest to go out")
        assert (told("oldest_unarchived_seconds"), told("lag_messages"), told("topic_gone")) == (0, 0, 1)
        kafka.create_topic(topic)
        opened.turn()
        assert told("topic_gone") == 0


def test_what_was_read_while_the_lake_is_away_is_reported_open(
    kafka: Kafka, seaweed: Seaweed, topic: str, source: Source
) -> None:
    def age() -> float:
        return REGISTRY.get_sample_value("persistor_oldest_unarchived_seconds", {"source": topic}) or 0.0

    lake = seaweed.create_bucket(topic)
    in_lake = replace(
        source, lake=lake, lake_config=seaweed.config, purpose=lake, limits=Limits(10, 2**20, 2)
    )
    with reading(in_lake) as opened:
        opened.turn()
        with seaweed.killed():
            kafka.produce(topic, values(0, 10))
            thread = Thread(target=opened.until, args=(10,))
            thread.start()
            wait_until(lambda: age() > 1, 30, "the age of what waits for its claim")
            kafka.produce(topic, values(10, 17))
            lag = "persistor_lag_messages", {"source": topic}
            wait_until(lambda: REGISTRY.get_sample_value(*lag) == 7, 30, "the lag behind it")
        thread.join()
        opened.until(17).acknowledge().turn()
        assert age() == 0


def test_a_shard_reports_of_how_many_it_is_one_while_it_is_there(source: Source) -> None:
    def told() -> tuple[float | None, float | None]:
        return REGISTRY.get_sample_value("persistor_shards"), REGISTRY.get_sample_value(
            "persistor_shards_read"
        )

    before = told()[1] or 0
    shard = Shard(source, 1, 3)
    assert told() == (3, before + 1)
    shard.close()
    assert told() == (3, before)


def refuse_meanwhile(reader: KafkaReader) -> None:
    """Let another broker refuse the login whenever one gives it messages."""
    consume = reader._consume

    def refused(*given: Any) -> list[Run | Message]:
        found = consume(*given)
        if any(isinstance(one, Run) for one in found):
            reader.note_error(KafkaError(KafkaError.SASL_AUTHENTICATION_FAILED))
        return found

    reader._consume = refused


def test_a_refusal_that_arrives_while_messages_come_costs_none_of_them(
    kafka: Kafka, topic: str, source: Source
) -> None:
    kafka.produce(topic, values(0, 20))
    refusals: list[str] = []
    with reading(source) as opened:
        reader = opened.shard._reader
        assert isinstance(reader, KafkaReader)
        refuse_meanwhile(reader)

        def all_read() -> bool:
            try:
                opened.turn()
            except ConfigurationError as error:  # a runner that tries the bundle again
                refusals.append(str(error))
            return len(opened.ids) >= 20

        wait_until(all_read, DEADLINE, "all messages")
    assert opened.ids == [f"{topic}_0_{offset}" for offset in range(20)]
    assert refusals
    assert "refuses access" in refusals[0]
