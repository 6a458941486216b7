"""Jobs with one lake and two indexes: what one has made durable is not taken for the other's."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from tests._reading import Reading, reading
from tests.servers.kafka import Kafka
from transforms.reading.buffers import Limits
from transforms.reading.sinks import Sinks
from transforms.reading.source import Source

_ONE, _OTHER = Sinks(index="mongodb://one/db"), Sinks(index="mongodb://other/db")


@pytest.fixture
def topic(kafka: Kafka) -> str:
    return kafka.create_topic(f"t{uuid.uuid4().hex[:10]}")


@pytest.fixture
def source(kafka: Kafka, topic: str, tmp_path: Path) -> Source:
    lake = f"file://{tmp_path}/lake"
    return Source(
        f"{kafka.url}/{topic}", lake=lake, limits=Limits(messages=10, age=0.3), purpose=lake, sinks=_ONE
    )


def _produce(kafka: Kafka, topic: str, count: int) -> None:
    kafka.produce(topic, ({"value": b"%d" % number} for number in range(count)))


def _crash(crashing: Reading) -> None:
    crashing.shard._assignment.close()
    crashing.shard._reader.close()


def _ids(topic: str, start: int, end: int) -> list[str]:
    return [f"{topic}_0_{offset}" for offset in range(start, end)]


def test_what_a_crashed_job_has_not_entered_is_entered_though_another_went_on(
    kafka: Kafka, topic: str, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    other = replace(source, sinks=_OTHER)
    _produce(kafka, topic, 10)
    crashing = Reading(other).until(10).acknowledge()
    _produce(kafka, topic, 20)
    crashing.until(30)  # claimed; nothing of it is entered
    _crash(crashing)
    with reading(source) as one:
        one.until(20).acknowledge()
        _produce(kafka, topic, 10)
        one.until(30).acknowledge()
    assert one.ids == _ids(topic, 10, 40)
    assert f"may lack what was archived from {topic}/0 before now" in caplog.text
    with reading(other) as again:
        again.until(30)
    assert again.ids == _ids(topic, 10, 40)


def test_a_start_says_what_another_index_has_and_this_one_lacks(
    kafka: Kafka, topic: str, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    _produce(kafka, topic, 20)
    with reading(source) as one:
        one.until(20).acknowledge()
    assert "rebuild" not in caplog.text
    with reading(source) as one:
        one.turn()
    assert "rebuild" not in caplog.text
    other = replace(source, sinks=_OTHER)
    with reading(other) as first:
        first.turn()
    assert f"may lack what was archived from {topic}/0 before now; `persistor rebuild`" in caplog.text
    caplog.clear()
    with reading(other) as second:
        _produce(kafka, topic, 10)
        second.until(10)
    assert second.ids[-10:] == _ids(topic, 20, 30)
    assert "rebuild" not in caplog.text


def test_credentials_and_options_of_a_sink_do_not_make_it_another() -> None:
    urls = "mongodb://u:p@host/db?tls=true", "mongodb://host/db", "mongodb://${file:/secret}@host/db"
    assert len({Sinks(url).id for url in urls}) == 1
    assert Sinks("mongodb://host/db").id != Sinks(metadata="mongodb://host/db").id
