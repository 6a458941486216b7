"""How NATS is read: its consumers, interest and work-queue streams, holes and gaps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import _reading
from tests._brokers import NatsSite, fetch, messages, numbered, reading, together
from tests.integration.nats._streams import (
    add_stream,
    data,
    delivered,
    drop_readers,
    durables,
    source,
    stream,
)
from tests.servers import wait_until
from transforms.brokers import Acknowledgement, OffsetGapError, Partition
from transforms.errors import ConfigurationError, PermanentError


def test_the_durable_consumer_shows_operators_the_progress(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    nats.publish(f"{stem}.a", numbered(100))
    with reading(nats.reader(f"{stem}.>", group="archive")) as reader:
        fetch(reader, 100)
        reader.acknowledge([Acknowledgement(Partition(f"{stem}.>", 0), 61)])
        (durable,) = durables(nats, stem)
        assert durable.name.startswith(f"archive-{stem}")
        assert (durable.ack_floor.stream_seq, durable.num_pending) == (60, 40)
        reader.acknowledge([Acknowledgement(Partition(f"{stem}.>", 0), 31)])
        (durable,) = durables(nats, stem)
        assert durable.ack_floor.stream_seq == 60, "progress never goes back"


def test_closing_leaves_the_durable_and_nothing_else(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    with reading(nats.reader(f"{stem}.>")) as reader:
        reader.poll(0.2)
        assert stream(nats, stem).state.consumer_count == 2
    assert stream(nats, stem).state.consumer_count == 1


def test_an_interest_stream_keeps_messages_until_they_are_acknowledged(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem, retention="interest")
    partition = Partition(f"{stem}.>", 0)
    with reading(nats.reader(partition.topic)) as reader:
        reader.poll(0.2)
        nats.publish(f"{stem}.a", numbered(100))
        fetch(reader, 100)
        assert stream(nats, stem).state.messages == 100
        reader.acknowledge([Acknowledgement(partition, 41)])
        assert stream(nats, stem).state.messages == 60
    nats.publish(f"{stem}.a", numbered(10, 100))
    nats.server.kill()
    nats.server.start()
    assert stream(nats, stem).state.messages == 70
    reader = nats.reader(partition.topic)
    reader.discover()
    assert reader.committed([partition]).get(partition) == (41, "")
    with reading(reader, {partition: 41}):
        assert data(fetch(reader, 70)) == [b"%d" % number for number in range(40, 110)]


def test_an_interest_stream_that_gave_nothing_yet_is_read_from_its_start(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem, retention="interest")
    with reading(nats.reader(f"{stem}.>"), {Partition(f"{stem}.>", 0): 0}) as reader:
        reader.poll(0)
        nats.publish(f"{stem}.a", numbered(3))
        assert data(fetch(reader, 3)) == [b"0", b"1", b"2"]


def test_a_work_queue_loses_only_what_is_acknowledged(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem, retention="workqueue")
    partition = Partition(f"{stem}.>", 0)
    nats.publish(f"{stem}.a", numbered(100))
    with reading(nats.reader(partition.topic)) as reader:
        assert data(fetch(reader, 100)) == [b"%d" % number for number in range(100)]
        assert stream(nats, stem).state.messages == 100
        reader.acknowledge([Acknowledgement(partition, 41)])
        assert (stream(nats, stem).state.messages, stream(nats, stem).state.first_seq) == (60, 41)
    nats.server.kill()
    nats.server.start()
    with reading(nats.reader(partition.topic), {partition: 41}) as reader:
        assert data(fetch(reader, 60)) == [b"%d" % number for number in range(40, 100)]
        nats.publish(f"{stem}.a", numbered(5, 100))
        assert data(fetch(reader, 5)) == [b"%d" % number for number in range(100, 105)]
        reader.acknowledge([Acknowledgement(partition, 106)])
        assert stream(nats, stem).state.messages == 0


def test_a_work_queue_that_another_program_reads_is_refused(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem, retention="workqueue")
    nats.do(lambda js: js.pull_subscribe(f"{stem}.>", durable="other", stream=stem))
    with reading(nats.reader(f"{stem}.>")) as reader, pytest.raises(ConfigurationError, match=stem):
        reader.poll(1.0)


def test_two_readers_of_one_source_each_get_everything(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    with reading(nats.reader(f"{stem}.>")) as one, reading(nats.reader(f"{stem}.>")) as other:
        one.poll(0.1)
        other.poll(0.1)
        nats.publish(f"{stem}.a", numbered(1000))
        expected = [b"%d" % number for number in range(1000)]
        assert data(fetch(one, 1000)) == expected
        assert data(fetch(other, 1000)) == expected


def test_a_consumer_that_is_taken_away_is_made_again_without_loss_or_repeat(
    nats: NatsSite, stem: str
) -> None:
    add_stream(nats, stem)
    with reading(nats.reader(f"{stem}.>")) as reader:
        fetched = list[Any]()
        for start in range(0, 500, 100):
            nats.publish(f"{stem}.a", numbered(100, start))
            fetched += fetch(reader, 100)
            drop_readers(nats, stem)
        refusals = list(reader.unreadable())
    assert data(fetched) == [b"%d" % number for number in range(500)]
    assert {(one.code, one.reason) for one in refusals} == {("409", "409 Consumer Deleted")}
    assert {one.partition for one in refusals} == {Partition(f"{stem}.>", 0)}


def test_offsets_are_stream_sequences_with_holes_where_others_were(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    for number in range(3):
        nats.publish(f"{stem}.a", numbered(1, number))
        nats.publish(f"{stem}.b", numbered(2))
    nats.do(lambda js: js.delete_msg(stem, 4))
    with reading(nats.reader(f"{stem}.a")) as reader:
        (fetched,) = fetch(reader, 2)
        assert fetched.messages["offset"].to_pylist() == [1, 7]
        assert fetched.messages["topic"].to_pylist() == [f"{stem}.a"] * 2
        assert fetched.position == 8


def test_retention_that_overtakes_an_idle_reader_is_a_gap(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    nats.publish(f"{stem}.a", numbered(10))
    partition = Partition(f"{stem}.>", 0)
    with reading(nats.reader(partition.topic)) as reader:
        fetch(reader, 10)
        drop_readers(nats, stem)
        nats.publish(f"{stem}.a", numbered(20, 10))
        nats.do(lambda js: js.purge_stream(stem, seq=21))
        with pytest.raises(OffsetGapError) as gap:
            wait_until(lambda: reader.poll(0.5), 60, "a gap")
        assert gap.value.gaps == {partition: 21}
        reader.assign({partition: 21})
        assert data(fetch(reader, 10)) == [b"%d" % number for number in range(20, 30)]


def test_retention_that_removes_what_comes_next_is_a_gap_behind_what_is_there(
    nats: NatsSite, stem: str
) -> None:
    add_stream(nats, stem)
    large = bytes(400_000)
    nats.publish(f"{stem}.a", messages(*[{"data": large}] * 6))
    partition = Partition(f"{stem}.>", 0)
    with reading(nats.reader(partition.topic, memory=0)) as reader:
        # One request takes two of these; the next request is made by the next call.
        reader.poll(0)
        wait_until(lambda: delivered(nats, stem) == 2, 60, "two messages to be on their way")
        nats.do(lambda js: js.purge_stream(stem, seq=6))
        assert together(fetch(reader, 2))["offset"].to_pylist() == [1, 2]
        with pytest.raises(OffsetGapError) as gap:
            wait_until(lambda: reader.poll(0.5), 60, "a gap")
        assert gap.value.gaps == {partition: 6}
        reader.assign({partition: 6})
        assert together(fetch(reader, 1))["offset"].to_pylist() == [6]


def test_a_stream_that_ends_before_the_position_is_reported_unless_it_soon_ends_behind_it(
    nats: NatsSite, stem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_stream(nats, stem)
    nats.publish(f"{stem}.a", numbered(5))
    partition = Partition(f"{stem}.>", 0)
    with reading(nats.reader(partition.topic), {partition: 11}) as reader:
        assert reader.poll(0) == []
        nats.publish(f"{stem}.a", numbered(6, 5))
        assert together(fetch(reader, 1))["offset"].to_pylist() == [11]
    monkeypatch.setattr("transforms.brokers.nats.filter_reader._SETTLES", 0.0)
    with reading(nats.reader(partition.topic), {partition: 13}) as reader:
        with pytest.raises(OffsetGapError) as gap:
            reader.poll(0)
        assert gap.value.gaps == {partition: 12}


def test_a_server_that_is_away_is_said_once_and_so_is_its_return(
    nats: NatsSite, stem: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_stream(nats, stem)
    nats.publish(f"{stem}.a", numbered(10))
    with _reading.reading(source(nats, f"{stem}.a", tmp_path)) as opened:
        opened.until(10)
        with nats.server.killed():
            for _ in range(3):
                opened.shard._poll(0.1)
        nats.publish(f"{stem}.a", numbered(5, 10))
        opened.until(15)
    said = [r.getMessage() for r in caplog.records if r.name == "transforms.reading.unreadable"]
    assert [line[:31] for line in said if "broker" in line] == [
        "cannot read from the broker, tr",
        "read from the broker again afte",
    ]


def test_a_stream_that_lost_what_it_confirmed_is_no_longer_archived(
    nats: NatsSite, stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.brokers.nats.filter_reader._SETTLES", 0.1)
    add_stream(nats, stem)
    nats.publish(f"{stem}.a", numbered(10))
    with _reading.reading(source(nats, f"{stem}.a", tmp_path)) as opened:
        opened.until(10)
        nats.server.kill()
        [stored] = nats.server.data.rglob(f"{stem}/msgs")
        shutil.rmtree(stored)
        nats.server.start()
        nats.publish(f"{stem}.a", numbered(5))
        with pytest.raises(PermanentError, match=r"before position 11.*has lost messages"):
            wait_until(opened.turn, 60, "an end")
