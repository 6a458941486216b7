"""What a broker's extension in C reads, and what is read without it: the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import confluent_kafka
import pyarrow as pa
import pytest
from confluent_kafka import Consumer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests._brokers import KafkaSite, Site, fetch, numbered, reading, together
from tests._traits import BrokerTrait
from tests.contract.brokers import test_kills, test_reading
from tests.servers.kafka_raw import Record, produce_batch
from transforms.brokers import Fetched, Partition
from transforms.brokers.kafka import native

ROOT = Path(__file__).parents[3]
_NAMES = st.one_of(
    st.sampled_from(
        [b"", b"trace", b"trace", b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"a\0b"]
    ),
    st.text(max_size=5).map(str.encode),
    st.binary(max_size=5),
)
_BYTES = st.one_of(st.none(), st.binary(max_size=12))
_TIMES = st.one_of(st.sampled_from([-1, -5, 0, 1, 9223372036854775, 1 << 62]), st.integers(0, 1 << 42))
_RECORDS = st.builds(Record, _BYTES, _BYTES, st.lists(st.tuples(_NAMES, _BYTES), max_size=4), _TIMES)
_BATCHES = st.lists(_RECORDS, min_size=1, max_size=30)
_FOREVER = (1 << 63) - 1
_ANY_TIME = {
    "message_timestamp_before_max_ms": _FOREVER,
    "message_timestamp_after_max_ms": _FOREVER,
    "retention_ms": -1,
}


@pytest.fixture
def in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.SWITCH, "0")


@pytest.mark.needs(BrokerTrait.EXTENSION)
@pytest.mark.usefixtures("in_python")
class TestReadingInPython(test_reading.TestReading):
    pass


@pytest.mark.needs(BrokerTrait.EXTENSION)
@pytest.mark.usefixtures("in_python")
class TestPositionsInPython(test_reading.TestPositions):
    pass


@pytest.mark.needs(BrokerTrait.EXTENSION, BrokerTrait.DURABLE)
@pytest.mark.usefixtures("in_python")
class TestKillsInPython(test_kills.TestKills):
    pass


def read(site: Site, topic: str, starts: Sequence[int], count: int) -> list[Fetched]:
    places = {Partition(topic, number): start for number, start in enumerate(starts)}
    with reading(site.reader(topic), places) as reader:
        return fetch(reader, count)


def columns(fetched: Sequence[Fetched], number: int) -> pa.Table:
    of_it = [one.messages for one in fetched if one.partition.number == number and len(one.messages)]
    table: pa.Table = pa.concat_tables(of_it).combine_chunks()
    table.validate(full=True)
    return table


def reached(fetched: Sequence[Fetched]) -> dict[int | None, int]:
    return {one.partition.number: one.position for one in fetched}


def both(site: Site, topic: str, starts: Sequence[int], count: int) -> list[list[Fetched]]:
    """What is read by the extension, and in Python."""
    found = [read(site, topic, starts, count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(native.SWITCH, "0")
        found.append(read(site, topic, starts, count))
    return found


@pytest.mark.needs(BrokerTrait.EXTENSION)
class TestExtension:
    def test_it_is_what_reads_here(self) -> None:
        assert native.why_not() is None

    def test_any_messages_are_equal_to_those_read_in_python(self, site: Site) -> None:
        assert isinstance(site, KafkaSite)
        topic, ends = f"{site.topic()}-any", [0, 0]
        site.server.create_topic(topic, partitions=2, **_ANY_TIME)

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.tuples(_BATCHES, _BATCHES))
        def check(batches: tuple[list[Record], list[Record]]) -> None:
            starts = list(ends)
            for number, batch in enumerate(batches):
                produce_batch(site.server, topic, batch, number)
                ends[number] += len(batch)
            ours, theirs = both(site, topic, starts, sum(map(len, batches)))
            assert reached(ours) == reached(theirs) == dict(enumerate(ends))
            assert {one.epoch for one in ours} == {one.epoch for one in theirs}
            for number, batch in enumerate(batches):
                one, other = columns(ours, number), columns(theirs, number)
                assert one.schema == other.schema
                assert one.equals(other)
                assert len(one) == len(batch)

        check()

    def test_headers_without_number_and_names_without_end_are_equal_too(self, site: Site) -> None:
        assert isinstance(site, KafkaSite)
        topic = site.topic()
        hostile = [
            Record(None, b"", [(b"n%d" % (n % 7), None if n % 3 else b"") for n in range(100_000)]),
            Record(b"", None, [(b"n" * 900_000, b"v")]),
            Record(b"", None, [(b"n" * 900_000 + b"\xff", b"v")]),
            Record(b"k" * 900_000, b"", [(b"", b"v" * 10), (b"", None)]),
        ]
        for record in hostile:
            produce_batch(site.server, topic, [replace(record, time_ms=int(time.time() * 1000))])
        ours, theirs = both(site, topic, [0], len(hostile))
        assert columns(ours, 0).equals(columns(theirs, 0))
        assert columns(ours, 0)["headers"].null_count == 1

    def test_messages_of_many_partitions_keep_their_partition_and_order(self, site: Site) -> None:
        assert isinstance(site, KafkaSite)
        topic, count = f"{site.topic()}-many", 60
        site.server.create_topic(topic, partitions=count)
        sent = [{"value": b"%d" % n, "partition": n * 7 % count} for n in range(20 * count)]
        site.server.produce(topic, sent)
        ours, theirs = both(site, topic, [0] * count, len(sent))
        for number in range(count):
            one = columns(ours, number)
            assert one.equals(columns(theirs, number))
            assert one["offset"].to_pylist() == list(range(20))

    def test_an_exception_of_a_callback_is_raised_as_by_the_client(self, site: Site) -> None:
        def fail(_: str) -> None:
            raise LookupError("of a callback")

        assert isinstance(site, KafkaSite)
        where = {"bootstrap.servers": site.server.bootstrap, "group.id": "callback"}
        consumer = Consumer({**where, "statistics.interval.ms": 10, "stats_cb": fail})
        with pytest.raises(LookupError, match="of a callback"):
            native.consume(consumer, 10, 5.0)
        consumer.close()
        with pytest.raises(RuntimeError, match="closed"):
            native.consume(consumer, 10, 0.1)

    def test_what_is_no_consumer_is_refused(self) -> None:
        with pytest.raises(TypeError, match="Consumer"):
            native.consume(object(), 10, 0.1)


@pytest.fixture
def afresh() -> Iterator[None]:
    """What was loaded is looked for again, before and after."""
    native._loaded.cache_clear()
    yield
    native._loaded.cache_clear()


@pytest.mark.needs(BrokerTrait.EXTENSION)
@pytest.mark.usefixtures("afresh")
class TestWithout:
    def test_another_version_of_the_client_is_read_in_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(confluent_kafka, "version", lambda: "99.1.0")
        assert native.why_not() == "it is not verified with confluent-kafka 99.1.0"

    def test_where_it_was_not_built_messages_are_read_in_python(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "transforms.brokers.kafka._native", None)
        assert "it was not built" in (native.why_not() or "")
        topic = site.topic()
        site.publish(topic, numbered(20))
        with reading(site.reader(topic)) as reader:
            assert len(together(fetch(reader, 20))) == 20

    def test_without_a_compiler_the_rest_is_built(self, tmp_path: Path) -> None:
        for name in ("setup.py", "pyproject.toml", "LICENSE", "transforms/brokers/kafka"):
            place = tmp_path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, place)
        for built in tmp_path.rglob("_native*.so"):
            built.unlink()
        command = [sys.executable, "setup.py", "build_ext", "--inplace"]
        environment = {**os.environ, "CC": "/nowhere/cc"}
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
        assert list(tmp_path.rglob("_native*.so")) == []
