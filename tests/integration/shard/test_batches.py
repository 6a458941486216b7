"""The reading engine on a real Kafka: batches, claims and restarts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests._reading import DEADLINE, Reading, ids, reading, values
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from transforms.brokers import Acknowledgement
from transforms.lake import Lake
from transforms.reading.buffers import Limits
from transforms.reading.claims import Chain, Claims
from transforms.reading.source import Source


def test_batches_close_by_count_then_by_age(kafka: Kafka, topic: str, source: Source) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 25))
    with reading(source) as opened:
        opened.until(25)
    assert [(b.name, len(b.messages), b.close_reason) for b in opened.batches] == [
        (f"{topic}-0-{0:020d}", 10, "count"),
        (f"{topic}-0-{10:020d}", 10, "count"),
        (f"{topic}-0-{20:020d}", 5, "age"),
    ]
    assert opened.ids == ids(topic, 0, 25)


def test_no_batch_exceeds_the_bytes_but_one_message_that_does(
    kafka: Kafka, topic: str, source: Source
) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, [{"value": bytes(size)} for size in (400, 400, 400, 3000, 100)])
    with reading(replace(source, limits=Limits(messages=10, bytes=1000, age=0.3))) as opened:
        opened.until(5)
    assert [len(batch.messages) for batch in opened.batches] == [2, 1, 1, 1]


def test_an_open_batch_is_closed_when_the_shard_drains(kafka: Kafka, topic: str, source: Source) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 3))
    with reading(replace(source, limits=Limits(age=3600))) as opened:
        wait_until(lambda: opened.turn() == [] and opened.open_rows == 3, DEADLINE, "all read")
        opened.turn(drain=True)
    assert opened.ids == ids(topic, 0, 3)
    assert [batch.close_reason for batch in opened.batches] == ["drain"]


def test_a_restart_before_anything_was_acknowledged_cuts_the_same_batches(
    kafka: Kafka, topic: str, source: Source
) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 25))
    with reading(source) as first:
        first.until(25)
    kafka.produce(topic, values(25, 30))
    larger = replace(source, limits=Limits(messages=1000, age=0.3))
    with reading(larger) as second:
        second.until(30)
    assert [batch.name for batch in second.batches[:3]] == [batch.name for batch in first.batches]
    assert [len(batch.messages) for batch in second.batches] == [10, 10, 5, 5]
    assert second.ids == ids(topic, 0, 30)


def test_a_restart_goes_on_behind_what_was_acknowledged(kafka: Kafka, topic: str, source: Source) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 20))
    with reading(source) as first:
        first.until(20)
        first.acknowledge()
    kafka.produce(topic, values(20, 25))
    with reading(source) as second:
        second.until(5)
    assert second.ids == ids(topic, 20, 25)


@pytest.mark.parametrize("claims", [True, False])
def test_what_an_earlier_process_committed_is_committed_again_so_that_kafka_does_not_forget_it(
    kafka: Kafka, topic: str, source: Source, claims: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 20))
    source = source if claims else replace(source, lake=None)
    with reading(source) as first:
        first.until(20).acknowledge()
    told: list[Acknowledgement] = []
    with reading(source) as second:
        monkeypatch.setattr(second.shard._reader, "acknowledge", told.extend)
        wait_until(lambda: second.turn() == [] and told, DEADLINE, "a commit")
        second.turn()
    last = first.ready[-1].acknowledgement
    assert last is not None
    assert [(one.partition, one.position, one.note) for one in told] == [
        (last.partition, last.position, last.note)
    ]


def test_without_the_groups_offsets_reading_goes_on_behind_the_last_durable_claim(
    kafka: Kafka, topic: str, source: Source
) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 20))
    with reading(source) as first:
        first.until(20)
        first.acknowledge()
        kafka.produce(topic, values(20, 30))
        first.until(30)  # claimed, with 20 as what is durable
    kafka.delete_group(source.group)
    with reading(source) as second:
        second.until(10)
    assert second.ids == ids(topic, 20, 30)


def test_an_offset_that_another_committed_is_not_believed(kafka: Kafka, topic: str, source: Source) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 20))
    with reading(source) as first:
        first.until(20)
        [*_, last] = first.ready
        stray = replace(last.acknowledgement, position=17, note="")
        first.shard.durable([(last.key, stray)])
        first.turn()
    with reading(source) as second:
        second.until(20)
    assert second.ids == ids(topic, 0, 20)


def test_two_jobs_on_one_topic_cut_it_alike(kafka: Kafka, topic: str, source: Source) -> None:
    kafka.create_topic(topic)
    with reading(source) as one, reading(replace(source, limits=Limits(messages=7, age=0.1))) as other:
        for start in range(0, 100, 20):
            kafka.produce(topic, values(start, start + 20))
            one.until(start + 13)
            other.until(start + 9)
        one.until(100)
        other.until(100)
    assert one.ids == other.ids == ids(topic, 0, 100)
    assert {b.name: len(b.messages) for b in one.batches} == {b.name: len(b.messages) for b in other.batches}


def test_what_was_handed_out_in_vain_is_handed_out_again(kafka: Kafka, topic: str, source: Source) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 25))
    with reading(source) as opened:
        opened.until(25)
        failed = opened.shard.turn(0.2, "")  # as after a bundle that failed before anything was kept
        again = Reading(source, opened.shard)
        again.ready += failed
        again.until(25)
    assert again.ids == opened.ids == ids(topic, 0, 25)


def test_what_is_given_up_is_not_acknowledged_before_it_is_claimed(
    kafka: Kafka, topic: str, source: Source, tmp_path: Path
) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 10))
    claims, aside = tmp_path / "lake/_persistor/claims", tmp_path / "aside"
    with reading(replace(source, give_up_after=0.5)) as opened:
        opened.until(10)
        opened.acknowledge()
        claims.rename(aside)
        claims.write_text("no claim can be made")
        kafka.produce(topic, values(10, 30))
        opened.until(30)
        given_up = opened.ready[-2:]
        assert [(one.acknowledgement, one.batch and one.batch.given_up is not None) for one in given_up] == [
            (None, True)
        ] * 2
        del opened.ready[-2:]
        opened.at = opened.ready[-1].at
        opened.until(30)  # as after a bundle that failed
        claims.unlink()
        aside.rename(claims)
        wait_until(lambda: any(one.batch is None for one in opened.turn()), DEADLINE, "the claim")
        kafka.produce(topic, values(30, 40))
        opened.until(40)
    assert opened.ids == ids(topic, 0, 40)
    acknowledged = [(one.start, one.next) for one in opened.ready if one.acknowledgement]
    assert acknowledged == [(0, 10), (10, 30), (30, 40)]
    entered = Claims(Lake(f"file://{tmp_path}/lake")).ahead(Chain(topic, 1, 0), 0)
    assert {start: (claim.next, claim.rows) for start, claim in entered.items()} == {
        0: (10, 10),
        10: (30, 0),
        30: (40, 10),
    }
