"""The index by way of a metadata topic, and what becomes of messages that are no metadata."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pyarrow as pa
import pytest

from tests.integration.harness import Archive, Persist, log_of
from tests.integration.load import load_message
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB
from transforms.lake import Lake

_SAMPLES = Path(__file__).parents[1] / "data" / "dataphos" / "metadata_topic_3.json"


@pytest.fixture
def topic() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


def test_an_index_made_from_the_metadata_topic_equals_the_one_that_persist_made(
    kafka: Kafka, mongodb: MongoDB, topic: str, tmp_path: Path
) -> None:
    kafka.create_topic(topic, partitions=3)
    kafka.create_topic(f"{topic}-meta", partitions=2)
    kafka.produce(topic, map(load_message, range(5000)))
    lake, direct = f"file://{tmp_path}/lake", f"sqlite://{tmp_path}/index.db"
    other = f"{mongodb.url}.{topic}"
    archive, remote = (Archive(Lake(lake), url) for url in (direct, other))
    metadata = f"{kafka.url}/{topic}-meta"
    persist = Persist(
        tmp_path / "persist",
        source=f"{kafka.url}/{topic}*",  # a pattern that its own metadata topic matches
        lake=lake,
        index=direct,
        metadata=metadata,
        path="{topic}/{header[path]}",
    )
    index = Persist(tmp_path / "index", "index", metadata=metadata, index=other)
    with persist, index:
        wait_until(lambda: bool(persist.pid) and archive.indexed() == 5000, 90, "the direct index")
        wait_until(lambda: bool(index.pid) and remote.indexed() == 5000, 90, "the index of the topic")
        index.kill()  # what it had not acknowledged is indexed again, and changes nothing
        index.start()
        kafka.produce(topic, map(load_message, range(5000, 6000)))
        wait_until(lambda: bool(index.pid) and remote.indexed() == 6000, 90, "the rest")
        persist.drain()
        index.drain()
    assert _sorted(remote.entries()) == _sorted(archive.entries())


def test_metadata_of_dataphos_persistor_is_indexed_and_other_messages_are_dead_letters(
    kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    for name in (topic, f"{topic}-dead"):
        kafka.create_topic(name)
    samples = json.loads(_SAMPLES.read_text())
    kafka.produce(topic, [{"value": json.dumps(sample).encode()} for sample in samples])
    kafka.produce(topic, [{"value": b"no metadata", "key": b"k", "headers": [("h", b"1"), ("h", b"2")]}])
    index_url = f"sqlite://{tmp_path}/index.db"
    archive = Archive(Lake(f"file://{tmp_path}/lake"), index_url)
    index = Persist(
        tmp_path / "log",
        "index",
        metadata=f"{kafka.url}/{topic}",
        index=index_url,
        dead_letter=f"{kafka.url}/{topic}-dead",
    )
    with index:
        wait_until(lambda: bool(index.pid) and archive.indexed() == len(samples), 60, "the samples")
        wait_until(lambda: bool(index.pid) and len(log_of(kafka, f"{topic}-dead")) == 1, 60, "a dead letter")
        index.drain()
    assert sorted(archive.entries()["id"].to_pylist()) == sorted(sample["unique_id"] for sample in samples)
    [(key, value, headers, _)] = log_of(kafka, f"{topic}-dead").values()
    assert (key, value, headers[:2]) == (b"k", b"no metadata", (("h", b"1"), ("h", b"2")))
    told = {name: content for name, content in headers[2:] if name != "persistor-error-time"}
    assert told.pop("persistor-error-reason")
    assert told == {
        "persistor-error-stage": b"index",
        "persistor-error-category": b"permanent",
        "persistor-error-source": topic.encode(),
        "persistor-error-position": f"{topic}_0_{len(samples)}".encode(),
    }


def test_without_dead_letters_a_message_that_is_no_metadata_stops_the_job_and_stays(
    kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, [{"value": b"no metadata"}])
    index_url = f"sqlite://{tmp_path}/index.db"
    index = Persist(tmp_path / "log", "index", metadata=f"{kafka.url}/{topic}", index=index_url)
    for _ in range(2):
        with index:
            assert index.ends() == 1
    assert "--dead_letter" in index.output()
    assert "Traceback" not in index.output()


def _sorted(entries: pa.Table) -> pa.Table:
    return entries.sort_by("id")


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_a_metadata_topic_that_was_deleted_and_created_again_is_indexed_from_its_start(
    running: bool, kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    [sample, *_] = json.loads(_SAMPLES.read_text())

    def publish(first: int, end: int) -> None:
        ids = (f"{topic}_0_{number}" for number in range(first, end))
        kafka.produce(topic, [{"value": json.dumps({**sample, "unique_id": id}).encode()} for id in ids])

    kafka.create_topic(topic)
    index_url = f"sqlite://{tmp_path}/index.db"
    archive = Archive(Lake(f"file://{tmp_path}/lake"), index_url)
    index = Persist(tmp_path / "log", "index", metadata=f"{kafka.url}/{topic}", index=index_url)
    publish(0, 50)
    with index:
        wait_until(lambda: bool(index.pid) and archive.indexed() == 50, 60, "the first topic's entries")
        if not running:
            index.drain()
        kafka.delete_topic(topic)
        kafka.create_topic(topic)
        publish(50, 130)  # more than there were: a position of the first topic would pass over some
        if not running:
            index.start()
        wait_until(lambda: bool(index.pid) and archive.indexed() == 130, 90, "the second topic's entries")
        index.drain()
