"""The reading engine on a real Kafka whose topics lose messages, are compacted, made anew or added."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from tests._reading import DEADLINE, ids, reading, values
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from transforms.errors import ConfigurationError
from transforms.lake import Lake
from transforms.model import Batch, Layout
from transforms.reading.buffers import Limits
from transforms.reading.claims import Claims
from transforms.reading.source import Source
from transforms.writing import BatchWriter


def test_markers_and_aborted_messages_leave_no_lag(kafka: Kafka, topic: str, source: Source) -> None:
    kafka.create_topic(topic)
    kafka.produce_in_transaction(topic, values(0, 3))
    kafka.produce_in_transaction(topic, values(3, 5), commit=False)
    kafka.produce_in_transaction(topic, values(5, 6))
    with reading(source) as opened:
        opened.until(4)
        wait_until(lambda: opened.turn() is not None and opened.shard.lag() == 0, DEADLINE, "no lag")
    assert [d for b in opened.batches for d in b.messages["data"].to_pylist()] == [b"0", b"1", b"2", b"5"]


def test_messages_that_retention_took_are_a_claim_without_rows(
    kafka: Kafka, topic: str, source: Source, tmp_path: Path
) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 10))
    with reading(source) as first:
        first.until(10)
        first.acknowledge()
    kafka.produce(topic, values(10, 40))
    kafka.delete_records(topic, 0, 25)
    with reading(source) as second:
        second.until(15)
    assert second.ids == ids(topic, 25, 40)
    assert [(one.start, one.next) for one in second.ready if one.batch is None] == [(10, 25)]
    claims = Claims(Lake(f"file://{tmp_path}/lake"))
    [track] = second.shard._assignment.tracks.values()
    assert claims.ahead(track.chain, 10)[10].rows == 0
    assert _lost(topic) == 15


def test_what_retention_took_of_a_claimed_range_is_counted_unless_it_was_written(
    kafka: Kafka, topic: str, source: Source, tmp_path: Path
) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 30))
    writer = BatchWriter(Lake(f"file://{tmp_path}/lake"))
    with reading(source) as first:
        first.until(30)
        writer.write(first.batches[0])
    kafka.delete_records(topic, 0, 17)
    with reading(source) as second:
        second.until(13)
        files = [file for batch in second.batches for file in writer.write(batch)[0]]
    assert sorted(id for file in files for id in file.entries["id"].to_pylist()) == sorted(
        ids(topic, 0, 10) + ids(topic, 17, 30)
    )
    assert _lost(topic) == 7


def test_rows_before_a_hole_are_not_counted_as_lost(kafka: Kafka, topic: str, source: Source) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 5))
    with reading(replace(source, limits=Limits(age=3600))) as opened:
        wait_until(lambda: opened.turn() == [] and opened.open_rows == 5, DEADLINE, "all read")
        [track] = opened.shard._assignment.tracks.values()
        track.lose(9)
        wait_until(lambda: opened.turn() is not None and len(opened.ready) == 2, DEADLINE, "the hole")
    assert [(one.start, one.next) for one in opened.ready] == [(0, 5), (5, 9)]
    assert _lost(topic) == 4


def _lost(topic: str) -> float | None:
    return REGISTRY.get_sample_value("persistor_gap_messages_total", {"source": topic})


def test_a_topic_that_begins_late_is_read_from_where_it_begins(
    kafka: Kafka, topic: str, source: Source
) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 10))
    kafka.delete_records(topic, 0, 4)
    with reading(source) as opened:
        opened.until(6)
    assert opened.ids == ids(topic, 4, 10)
    assert (opened.ready[0].start, opened.ready[0].next) == (0, 4)


@pytest.mark.parametrize("again", [5, 15, 40])
def test_a_topic_made_anew_is_another_incarnation_with_ids_of_its_own(
    kafka: Kafka, topic: str, source: Source, again: int
) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, values(0, 15))
    with reading(source) as opened:
        opened.until(15)
        opened.acknowledge()
        kafka.delete_topic(topic)
        kafka.create_topic(topic)
        kafka.produce(topic, values(0, again))
        opened.until(15 + again)
    assert opened.ids[15:] == [f"{topic}~2_0_{offset}" for offset in range(again)]
    assert [b.messages["data"].to_pylist() for b in opened.batches][-1][-1] == b"%d" % (again - 1)
    with reading(source) as later:
        later.until(again)
    assert later.ids == opened.ids[15:]


def test_a_source_of_another_cluster_is_refused(kafka: Kafka, topic: str, source: Source) -> None:
    kafka.create_topic(topic)
    assert source.lake
    Claims(Lake(source.lake)).incarnation(topic, "another cluster", "its topic")
    with (
        reading(source) as opened,
        pytest.raises(ConfigurationError, match="belongs to the broker another"),
    ):
        opened.turn()


def test_a_missing_topic_is_named(source: Source, topic: str) -> None:
    with reading(source) as opened, pytest.raises(ConfigurationError, match=f"{topic}.* does not exist"):
        opened.turn()


def test_a_pattern_finds_new_topics_and_partitions_and_leaves_out_what_is_excluded(
    kafka: Kafka, topic: str, source: Source
) -> None:
    kafka.create_topic(f"{topic}.a")
    kafka.create_topic(f"{topic}.meta")
    kafka.produce(f"{topic}.a", values(0, 2))
    kafka.produce(f"{topic}.meta", values(0, 2))
    pattern = replace(source, url=f"{kafka.url}/{topic}.*", exclude=(f"{topic}.meta",))
    with reading(pattern) as opened:
        opened.until(2)
        kafka.create_topic(f"{topic}.b", partitions=2)
        kafka.produce(f"{topic}.b", [{"value": b"x", "partition": 0}, {"value": b"y", "partition": 1}])
        kafka.produce(f"{topic}.a", values(2, 3))
        opened.until(5)
    assert sorted(opened.ids) == sorted(
        [f"{topic}.a_0_{offset}" for offset in range(3)] + [f"{topic}.b_{number}_0" for number in (0, 1)]
    )


def test_a_range_read_again_after_compaction_gives_what_the_first_file_holds(
    kafka: Kafka, topic: str, source: Source, tmp_path: Path
) -> None:
    kafka.create_topic(
        topic,
        cleanup_policy="compact",
        segment_ms=100,
        min_cleanable_dirty_ratio="0.01",
        delete_retention_ms=0,
    )
    kafka.produce(topic, [{"key": b"k%d" % (n % 4), "value": b"%d" % n} for n in range(10)])
    writer = BatchWriter(Lake(f"file://{tmp_path}/lake"))
    with reading(source) as first:
        first.until(10)
        before = [file for batch in first.batches for file in writer.write(batch)[0]]
    _compact(kafka, topic, lambda: len(_Earliest(kafka, topic).read()) < 10)
    with reading(source) as second:
        wait_until(lambda: bool(second.turn() or second.batches), DEADLINE, "the range again")
        assert 0 < len(second.batches[0].messages) < 10
        [after] = writer.write(second.batches[0])[0]
    assert after.location == before[0].location
    dropped = before[0].entries.drop_columns("ingestion_time")
    assert after.entries.drop_columns("ingestion_time") == dropped


def test_files_of_messages_that_are_gone_from_the_broker_are_still_entered(
    kafka: Kafka, topic: str, source: Source, tmp_path: Path
) -> None:
    kafka.create_topic(topic)
    kafka.produce(topic, [{"value": b"%d" % n, "headers": [("path", b"p%d" % (n // 5))]} for n in range(10)])
    source = replace(source, layout=Layout("{topic}/{header[path]}"))
    writer = BatchWriter(Lake(f"file://{tmp_path}/lake"))
    with reading(source) as first:
        first.until(10)
        before = _entries(writer, first.batches[0])
    for kept in (7, 10):
        kafka.produce(topic, values(0, 1))
        kafka.delete_records(topic, 0, kept)
        with reading(source) as again:
            wait_until(lambda again=again: bool(again.turn() or again.batches), DEADLINE, "the range again")
            assert len(again.batches[0].messages) == 10 - kept
            assert _entries(writer, again.batches[0]) == before


def _entries(writer: BatchWriter, batch: Batch) -> set[tuple[str, str, int]]:
    rows = [row for file in writer.write(batch)[0] for row in file.entries.to_pylist()]
    return {(row["id"], row["location"], row["position"]) for row in rows}


class _Earliest:
    """Reads a topic with a job of its own."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._source = Source(f"{kafka.url}/{topic}", limits=Limits(age=0.2), purpose=uuid.uuid4().hex)

    def read(self) -> list[str]:
        with reading(self._source) as opened:
            wait_until(lambda: bool(opened.turn()) and opened.shard.lag() == 0, DEADLINE, "the topic")
            return [id for id in opened.ids if int(id.rpartition("_")[2]) < 10]


def _compact(kafka: Kafka, topic: str, compacted: Callable[[], bool]) -> None:
    def roll_and_look() -> bool:
        kafka.produce(topic, [{"key": b"roll", "value": b"x"}])  # closes a segment for the cleaner
        return compacted()

    wait_until(roll_and_look, DEADLINE, "compaction")
