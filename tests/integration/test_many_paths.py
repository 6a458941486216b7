"""Batches of many paths: bounded, larger where files would be small, written at the same time, in order."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests._reading import reading
from tests.integration.harness import Archive, Persist, expected
from tests.servers.careless import slow
from tests.servers.kafka import Kafka
from tests.servers.moto import Moto
from transforms.lake import Lake
from transforms.layout import directories
from transforms.model import Layout
from transforms.reading import batches
from transforms.reading.buffers import Limits
from transforms.reading.claims import Chain, Claims
from transforms.reading.source import Source
from transforms.writing import BatchWriter

_LAYOUT = Layout("{topic}/{key}")


@pytest.fixture
def topic(kafka: Kafka) -> str:
    return kafka.create_topic(f"paths-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def source(kafka: Kafka, topic: str, tmp_path: Path) -> Source:
    lake = f"file://{tmp_path}/lake"
    limits = Limits(messages=100, age=1.0)
    return Source(f"{kafka.url}/{topic}", lake=lake, layout=_LAYOUT, limits=limits, purpose=lake)


def _keyed(keys: Sequence[int]) -> list[dict[str, bytes]]:
    return [{"key": b"k%d" % key, "value": b"%d" % number} for number, key in enumerate(keys)]


def test_a_batch_ends_before_it_has_too_many_paths_and_nothing_changes_its_order(
    kafka: Kafka, topic: str, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_MOST_PATHS", 7)
    kafka.produce(topic, _keyed([*range(20), *[0] * 30, *range(3)]))
    with reading(source) as opened:
        opened.until(53)
    assert opened.ids == [f"{topic}_0_{offset}" for offset in range(53)]
    # Keys 0 to 6, 7 to 13, 14 to 19 and then 0, of which there are more until key 1 comes.
    assert [len(batch.messages) for batch in opened.batches] == [7, 7, 37, 2]
    assert [batch.close_reason for batch in opened.batches] == ["paths", "paths", "paths", "age"]
    claims = Claims(Lake(source.lake or "")).ahead(Chain(topic, 1, 0), 0)
    written = [directories(_LAYOUT, batch.messages, topic) for batch in opened.batches]
    assert [claims[start].directories for start in (0, 7, 14, 51)] == written


def test_a_batch_of_many_small_files_grows_beyond_its_messages_and_not_beyond_its_age(
    kafka: Kafka, topic: str, source: Source
) -> None:
    kafka.produce(topic, _keyed([number % 150 for number in range(600)]))
    with reading(replace(source, limits=Limits(messages=200, age=3.0))) as opened:
        opened.until(600)
    assert [(len(b.messages), b.close_reason) for b in opened.batches] == [(600, "age")]


def test_it_grows_to_eight_times_its_messages_at_most(kafka: Kafka, topic: str, source: Source) -> None:
    kafka.produce(topic, _keyed([number % 150 for number in range(1_650)]))
    with reading(replace(source, limits=Limits(messages=200, age=60.0))) as opened:
        opened.until(1_600)
        opened.turn(drain=True)
    assert [(len(b.messages), b.close_reason) for b in opened.batches] == [(1_600, "count"), (50, "drain")]


def test_files_of_one_batch_are_written_at_the_same_time(
    kafka: Kafka, topic: str, source: Source, moto: Moto
) -> None:
    kafka.produce(topic, _keyed(range(48)))
    with reading(source) as opened:
        opened.until(48)
    [batch] = opened.batches
    bucket = moto.create_bucket(f"paths-{uuid.uuid4().hex[:8]}")
    with slow(moto, 1.0) as config:
        started = time.monotonic()
        files, dead = BatchWriter(Lake(bucket, config)).write(batch)
    assert time.monotonic() - started < 24
    assert [file.location.split("/")[-2] for file in files] == [f"k{number}" for number in range(48)]
    assert not dead


def test_6000_messages_of_3000_keys_are_3000_files_all_indexed(
    kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    kafka.produce(topic, _keyed([number % 3_000 for number in range(6_000)]))
    archive = Archive(Lake(f"file://{tmp_path}/lake"), f"sqlite://{tmp_path}/index.db")
    places = {"source": f"{kafka.url}/{topic}", "lake": archive.lake.url, "index": archive.index_url}
    options = {"path": "{topic}/{key}", "batch_messages": "1000", "batch_age": "10s"}
    with Persist(tmp_path / "log", **places, **options) as persist:
        there = expected(kafka, topic)
        archive.wait_for(there, persist, 120)
        persist.drain()
    archive.check(there)
    assert len(archive.files()) == 3_000
