"""What every reader must do: find its partitions, read, acknowledge, and know what it has left."""

from __future__ import annotations

import time
from functools import partial

import pytest

from tests._brokers import (
    SITES,
    Site,
    acknowledgement,
    contents,
    fetch,
    numbered,
    reading,
    together,
)
from tests._traits import BrokerTrait
from tests.servers import wait_until
from transforms import registry
from transforms.brokers import (
    OffsetGapError,
    Partition,
)


def test_every_broker_has_a_site() -> None:
    assert sorted(SITES) == registry.names("brokers")


class TestReading:
    def test_it_has_positions_unless_its_site_says_why_not(self, site: Site) -> None:
        with reading(site.reader(site.topic())) as reader:
            assert reader.positions == (BrokerTrait.POSITIONS not in site.lacks)

    def test_rows_are_distinguished_by_offset_or_by_id(self, site: Site) -> None:
        topic = site.topic()
        site.publish(topic, numbered(50))
        with reading(site.reader(topic)) as reader:
            read = together(fetch(reader, 50))
            known, empty = ("offset", "id") if reader.positions else ("id", "offset")
            assert read[empty].null_count == 50
            assert len(set(read[known].to_pylist())) == 50
            assert read["partition"].to_pylist() == [0 if reader.positions else None] * 50

    def test_an_idle_poll_returns_nothing_within_its_time(self, site: Site) -> None:
        with reading(site.reader(site.topic())) as reader:
            reader.poll(0.1)
            started = time.monotonic()
            assert reader.poll(0.5) == []
            assert 0.4 < time.monotonic() - started < 5.0

    def test_lag_reaches_zero(self, site: Site) -> None:
        topic = site.topic()
        site.publish(topic, numbered(500))
        with reading(site.reader(topic)) as reader:
            fetch(reader, 500)
            wait_until(lambda: not reader.poll(0.2) and list(reader.lag().values()) == [0], 60, "no lag")

    def test_how_long_messages_are_kept_is_known(self, site: Site) -> None:
        topic = site.topic()
        with reading(site.reader(topic)) as reader:
            [kept] = {reader.retention(partition) for partition in reader.discover()}
        assert kept is None or kept > 600

    def test_identity_stays_the_same(self, site: Site) -> None:
        one, other = site.reader(site.topic()), site.reader(site.topic())
        assert one.identity() == other.identity() != ""
        one.close()
        other.close()

    def test_shards_share_the_partitions_or_the_messages(self, site: Site) -> None:
        topics = [site.topic() for _ in range(4)]
        found = list[Partition]()
        for shard in range(2):
            reader = site.reader(",".join(topics), shard=(shard, 2))
            found += reader.discover()
            positions = reader.positions
            reader.close()
        assert sorted(p.topic for p in found) == sorted(topics if positions else topics * 2)

    def test_unacknowledged_messages_come_again_and_acknowledged_ones_do_not(self, site: Site) -> None:
        topic = site.topic()
        site.publish(topic, numbered(100))
        with reading(site.reader(topic)) as reader:
            assert len(together(fetch(reader, 100))) == 100
        with reading(site.reader(topic)) as reader:
            fetched = fetch(reader, 100)
            assert sorted(contents(together(fetched))) == sorted(contents(numbered(100)))
            reader.acknowledge([acknowledgement(fetched)])
            (partition,) = reader.discover()
            if reader.positions:  # committed without waiting, and again where the coordinator is not ready
                there = partial(reader.committed, [partition])
                wait_until(lambda: not reader.poll(0.1) and bool(there()), 30, "the commit")
            start = reader.committed([partition]).get(partition) or (0, "")
        with reading(site.reader(topic), {partition: start[0]}) as reader:
            assert reader.poll(1.0) == []


@pytest.mark.needs(BrokerTrait.POSITIONS)
class TestPositions:
    def test_an_acknowledged_position_is_found_by_the_next_reader(self, site: Site) -> None:
        topic = site.topic()
        site.publish(topic, numbered(10))
        with reading(site.reader(topic)) as reader:
            (partition,) = reader.discover()
            assert reader.committed([partition]).get(partition) is None
            fetched = fetch(reader, 10)
            reader.acknowledge([acknowledgement(fetched)])
            end = fetched[-1].position
        with reading(site.reader(topic)) as reader:
            committed = reader.committed([partition]).get(partition)
            assert committed is not None
            assert committed[0] == end
            other = site.reader(topic, group="another")
            other.discover()
            assert other.committed([partition]).get(partition) is None
            other.close()

    def test_reading_begins_exactly_at_the_assigned_position(self, site: Site) -> None:
        topic = site.topic()
        site.publish(topic, numbered(1000))
        with reading(site.reader(topic)) as reader:
            (partition,) = reader.discover()
            everything = together(fetch(reader, 1000))
            offsets = everything["offset"].to_pylist()
            assert reader.earliest([partition])[partition] == offsets[0]
            for start in (offsets[7], offsets[993], offsets[0]):
                reader.assign({partition: start})
                expected = [offset for offset in offsets if offset >= start]
                assert together(fetch(reader, len(expected)))["offset"].to_pylist() == expected

    def test_assigning_where_it_reads_disturbs_nothing(self, site: Site) -> None:
        topic = site.topic()
        site.publish(topic, numbered(100))
        with reading(site.reader(topic)) as reader:
            fetched = fetch(reader, 100)
            for number in range(100, 105):
                site.publish(topic, numbered(1, number))
                reader.assign({fetched[-1].partition: fetched[-1].position})
                fetched += fetch(reader, 1)
        assert together(fetched)["data"].to_pylist() == [b"%d" % number for number in range(105)]

    def test_positions_that_retention_removed_are_reported_as_a_gap(self, site: Site) -> None:
        topic = site.topic()
        site.publish(topic, numbered(10))
        with reading(site.reader(topic)) as reader:
            (partition,) = reader.discover()
            start = reader.earliest([partition])[partition]
        site.remove_before(topic, start + 4)
        with reading(site.reader(topic), {partition: start}) as reader:
            with pytest.raises(OffsetGapError) as gap:
                fetch(reader, 1)
            assert gap.value.gaps == {partition: start + 4}
            reader.assign(gap.value.gaps)
            assert together(fetch(reader, 6))["data"].to_pylist() == [b"4", b"5", b"6", b"7", b"8", b"9"]

    def test_a_topic_that_was_created_again_is_another_incarnation(self, site: Site) -> None:
        topic = site.topic()
        reader = site.reader(topic)
        first = dict(reader.discover())
        site.delete(topic)
        site.create(topic)
        second = dict(reader.discover())
        reader.close()
        assert first.keys() == second.keys()
        assert first != second
