"""What every broker's reader and publisher must do; runs once for each module of ``transforms.brokers``."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from tests._brokers import (
    SITES,
    Site,
    contents,
    fetch,
    installed,
    messages,
    numbered,
    reading,
    together,
)
from tests.servers import wait_until
from transforms import registry
from transforms.brokers import (
    Acknowledgement,
    Fetched,
    OffsetGapError,
    Partition,
    PublishOptions,
    Undelivered,
)
from transforms.entries import traits
from transforms.errors import ConfigurationError, TransientError
from transforms.model import MESSAGE_SCHEMA


def header(name: str, value: bytes | None) -> dict[str, object]:
    return {"name": name, "value": value}


SHAPES = messages(
    {"data": b"plain", "headers": [header("h", b"1")]},
    {"data": b"", "headers": [header("empty", b"payload")]},
    {"data": b"no headers"},
    {"data": None, "headers": [header("h", b"tombstone")]},
    {"data": b"key", "key": b"k1"},
    {"data": b"empty key", "key": b""},
    {"data": b"binary key", "key": b"\xff\x00k"},
    {"data": b"\xff\x00binary data\r\n", "headers": [header("h", b"")]},
    {"data": b"two", "headers": [header("a", b"1"), header("b", b"2")]},
    {"data": b"repeated", "headers": [header("b", b"1"), header("a", b"2"), header("b", b"3")]},
    {"data": b"binary header", "headers": [header("h", b"\xff\xfe\x00: x")]},
    {"data": b"null header", "headers": [header("h", None)]},
    {"data": b"blanks", "headers": [header("h", "  ü: x ".encode())]},
    {"data": b"names", "headers": [header("data", b"3"), header("topic", b"2"), header("ü ñ", b"1")]},
    {"data": b"orders", "headers": [header("Nats-Msg-Id", b"1"), header("Nats-Rollup", b"all")]},
    {"data": bytes(range(256)) * 3516, "headers": [header("h", b"900 kB")]},
)


@pytest.fixture(scope="module", params=registry.names("brokers"))
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with installed(request.param) as site:
        yield site


@pytest.fixture
def positioned(site: Site) -> Site:
    if not site.ordered:
        pytest.skip("this broker has no positions")
    return site


def carried(site: Site, topic: str) -> pa.Table:
    """The shapes that this broker says it carries."""
    publisher = site.publisher(topic)
    carries = int(publisher.destination().carries)
    publisher.close()
    needed = traits(SHAPES).to_numpy()
    return SHAPES.filter(pa.array((needed & ~np.int32(carries)) == 0))


def acknowledgement(fetched: list[Fetched]) -> Acknowledgement:
    receipts = [receipt for one in fetched for receipt in one.receipts]
    return Acknowledgement(fetched[-1].partition, fetched[-1].position, "", receipts)


def test_every_broker_has_a_site() -> None:
    assert sorted(SITES) == registry.names("brokers")


def test_what_is_published_is_read_back_unchanged(site: Site) -> None:
    topic = site.topic()
    sent = carried(site, topic)
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    site.publish(topic, sent)
    with reading(site.reader(topic)) as reader:
        read = together(fetch(reader, len(sent)))
    assert read.schema.equals(MESSAGE_SCHEMA)
    expected, found = contents(sent), contents(read)
    assert found == expected if site.ordered else sorted(found) == sorted(expected)
    assert set(read["topic"].to_pylist()) == {topic}
    assert all(before < moment < before + timedelta(minutes=5) for moment in read["publish_time"].to_pylist())


def test_how_long_messages_are_kept_is_known(site: Site) -> None:
    topic = site.topic()
    with reading(site.reader(topic)) as reader:
        [kept] = {reader.retention(partition) for partition in reader.discover()}
    assert kept is None or kept > 600


def test_what_was_sent_again_is_still_unchanged(site: Site) -> None:
    topic = site.topic()
    sent = carried(site, topic).slice(0, 14)
    with reading(site.reader(topic)) as reader:
        again = sent
        for turn in range(3):
            ids = pa.array([f"{turn}_0_{number}" for number in range(len(again))])
            site.publish(topic, again.set_column(0, MESSAGE_SCHEMA.field("id"), ids))
            fetched = fetch(reader, len(sent))
            reader.acknowledge([acknowledgement(fetched)])
            again = together(fetched)
    assert sorted(contents(again)) == sorted(contents(sent))


def test_rows_are_told_apart_by_offset_or_by_id(site: Site) -> None:
    topic = site.topic()
    site.publish(topic, numbered(50))
    with reading(site.reader(topic)) as reader:
        read = together(fetch(reader, 50))
        known, empty = ("offset", "id") if reader.positions else ("id", "offset")
        assert read[empty].null_count == 50
        assert len(set(read[known].to_pylist())) == 50
        assert read["partition"].to_pylist() == [0 if reader.positions else None] * 50


def test_extra_headers_follow_the_message_s_own(site: Site) -> None:
    topic = site.topic()
    publisher = site.publisher(topic)
    publisher.begin()
    options = PublishOptions(original_time=False, extra_headers=[("persistor-job", b"7")])
    publisher.send(messages({"data": b"d", "headers": [header("h", b"1")]}), options)
    assert publisher.commit(0) == []
    publisher.close()
    with reading(site.reader(topic)) as reader:
        read = together(fetch(reader, 1))
    assert read["headers"].to_pylist() == [[header("h", b"1"), header("persistor-job", b"7")]]


def test_order_and_count_are_kept_over_many_messages(site: Site) -> None:
    topic, sent = site.topic(), numbered(20_000)
    site.publish(topic, sent)
    with reading(site.reader(topic)) as reader:
        read = together(fetch(reader, 20_000))["data"].to_pylist()
    expected = sent["data"].to_pylist()
    assert read == expected if site.ordered else sorted(read) == sorted(expected)


def test_a_message_over_the_limit_is_named_and_the_others_arrive(site: Site) -> None:
    topic = site.topic()
    publisher = site.publisher(topic)
    publisher.begin()
    limit = publisher.destination().max_bytes
    assert limit is not None
    sent = messages({"data": b"a"}, {"data": random.Random(1).randbytes(limit + 1)}, {"data": b"b"})
    publisher.send(sent, PublishOptions(original_time=False))
    undelivered = publisher.commit(0)
    publisher.close()
    assert [one.id for one in undelivered] == [sent["id"][1].as_py()]
    assert isinstance(undelivered[0], Undelivered)
    assert undelivered[0].reason
    with reading(site.reader(topic)) as reader:
        assert sorted(together(fetch(reader, 2))["data"].to_pylist()) == [b"a", b"b"]


def test_an_idle_poll_returns_nothing_within_its_time(site: Site) -> None:
    with reading(site.reader(site.topic())) as reader:
        reader.poll(0.1)
        started = time.monotonic()
        assert reader.poll(0.5) == []
        assert 0.4 < time.monotonic() - started < 5.0


def test_lag_reaches_zero(site: Site) -> None:
    topic = site.topic()
    site.publish(topic, numbered(500))
    with reading(site.reader(topic)) as reader:
        fetch(reader, 500)
        wait_until(lambda: not reader.poll(0.2) and list(reader.lag().values()) == [0], 60, "no lag")


def test_an_acknowledged_position_is_found_by_the_next_reader(positioned: Site) -> None:
    topic = positioned.topic()
    positioned.publish(topic, numbered(10))
    with reading(positioned.reader(topic)) as reader:
        (partition,) = reader.discover()
        assert reader.committed(partition) is None
        fetched = fetch(reader, 10)
        reader.acknowledge([acknowledgement(fetched)])
        end = fetched[-1].position
    with reading(positioned.reader(topic)) as reader:
        committed = reader.committed(partition)
        assert committed is not None
        assert committed[0] == end
        other = positioned.reader(topic, group="another")
        other.discover()
        assert other.committed(partition) is None
        other.close()


def test_reading_begins_exactly_at_the_assigned_position(positioned: Site) -> None:
    topic = positioned.topic()
    positioned.publish(topic, numbered(1000))
    with reading(positioned.reader(topic)) as reader:
        (partition,) = reader.discover()
        everything = together(fetch(reader, 1000))
        offsets = everything["offset"].to_pylist()
        assert reader.earliest(partition) == offsets[0]
        for start in (offsets[7], offsets[993], offsets[0]):
            reader.assign({partition: start})
            expected = [offset for offset in offsets if offset >= start]
            assert together(fetch(reader, len(expected)))["offset"].to_pylist() == expected


def test_assigning_where_it_reads_disturbs_nothing(positioned: Site) -> None:
    topic = positioned.topic()
    positioned.publish(topic, numbered(100))
    with reading(positioned.reader(topic)) as reader:
        fetched = fetch(reader, 100)
        for number in range(100, 105):
            positioned.publish(topic, numbered(1, number))
            reader.assign({fetched[-1].partition: fetched[-1].position})
            fetched += fetch(reader, 1)
    assert together(fetched)["data"].to_pylist() == [b"%d" % number for number in range(105)]


def test_unacknowledged_messages_come_again_and_acknowledged_ones_do_not(site: Site) -> None:
    topic = site.topic()
    site.publish(topic, numbered(100))
    with reading(site.reader(topic)) as reader:
        assert len(together(fetch(reader, 100))) == 100
    with reading(site.reader(topic)) as reader:
        fetched = fetch(reader, 100)
        assert sorted(contents(together(fetched))) == sorted(contents(numbered(100)))
        reader.acknowledge([acknowledgement(fetched)])
        (partition,) = reader.discover()
        start = reader.committed(partition) or (0, "")
    with reading(site.reader(topic), {partition: start[0]}) as reader:
        assert reader.poll(1.0) == []


def test_positions_that_retention_removed_are_reported_as_a_gap(positioned: Site) -> None:
    topic = positioned.topic()
    positioned.publish(topic, numbered(10))
    with reading(positioned.reader(topic)) as reader:
        (partition,) = reader.discover()
        start = reader.earliest(partition)
    positioned.remove_before(topic, start + 4)
    with reading(positioned.reader(topic), {partition: start}) as reader:
        with pytest.raises(OffsetGapError) as gap:
            fetch(reader, 1)
        assert gap.value.gaps == {partition: start + 4}
        reader.assign(gap.value.gaps)
        assert together(fetch(reader, 6))["data"].to_pylist() == [b"4", b"5", b"6", b"7", b"8", b"9"]


def test_a_topic_that_was_created_again_is_another_incarnation(positioned: Site) -> None:
    topic = positioned.topic()
    reader = positioned.reader(topic)
    first = dict(reader.discover())
    positioned.delete(topic)
    positioned.create(topic)
    second = dict(reader.discover())
    reader.close()
    assert first.keys() == second.keys()
    assert first != second


def test_identity_stays_the_same(site: Site) -> None:
    one, other = site.reader(site.topic()), site.reader(site.topic())
    assert one.identity() == other.identity() != ""
    one.close()
    other.close()


def test_shards_share_the_partitions_or_the_messages(site: Site) -> None:
    topics = [site.topic() for _ in range(4)]
    found = list[Partition]()
    for shard in range(2):
        reader = site.reader(",".join(topics), shard=(shard, 2))
        found += reader.discover()
        positions = reader.positions
        reader.close()
    assert sorted(p.topic for p in found) == sorted(topics if positions else topics * 2)


def test_a_missing_topic_is_one_clear_sentence(site: Site) -> None:
    reader = site.reader("no-such-topic")
    with pytest.raises(ConfigurationError, match="no-such-topic") as problem:
        reader.discover()
    reader.close()
    assert len(problem.value.problems) == 1
    publisher = site.publisher("no-such-topic")
    (sentence,) = publisher.destination().problems
    publisher.close()
    assert "no-such-topic" in sentence


def test_refused_credentials_are_one_clear_sentence(site: Site) -> None:
    with site.guarded() as url:
        broker = registry.broker(url)
        with pytest.raises(ConfigurationError) as problem:
            broker.open_reader(url, site.wrong, group="g").discover()
        assert len(problem.value.problems) == 1
        assert "wrong-password" not in str(problem.value)
        with pytest.raises(ConfigurationError):
            look_up(url, site)


def look_up(url: str, site: Site) -> None:
    """A publisher says it by an exception or by a problem of its destination."""
    problems = registry.broker(url).open_publisher(url, site.wrong).destination().problems
    raise ConfigurationError(problems) if problems else AssertionError("nothing was refused")


def test_an_unknown_setting_is_refused_by_name(site: Site) -> None:
    url = site.url("t")
    with pytest.raises(ConfigurationError, match=r"no\.such\.setting"):
        registry.broker(url).open_reader(url, {"no.such.setting": "1"}, group="g")


def test_a_named_topic_that_is_excluded_is_refused(site: Site) -> None:
    topic = site.topic()
    with pytest.raises(ConfigurationError, match=topic):
        site.reader(topic, exclude=[topic]).discover()


def test_killing_the_server_while_publishing_and_reading_loses_and_repeats_nothing(site: Site) -> None:
    if not site.survives:
        pytest.skip("this server keeps nothing when it is killed")
    topic, chunks = site.topic(), [numbered(500, 500 * chunk) for chunk in range(40)]
    with ThreadPoolExecutor() as threads, reading(site.reader(topic)) as reader:
        writer = threads.submit(publish_all, site, topic, chunks)
        fetched = list[Fetched]()
        for so_far in (2000, 18_000):
            fetched += fetch(reader, so_far - sum(len(one.messages) for one in fetched), 60, writer)
            site.server.kill()
            site.server.start()
        writer.result(60)
        fetched += fetch(reader, 20_000 - sum(len(one.messages) for one in fetched), 60)
        fetched += reader.poll(0.5)
    assert together(fetched)["data"].to_pylist() == [b"%d" % number for number in range(20_000)]


def publish_all(site: Site, topic: str, chunks: list[pa.Table]) -> None:
    """As a resubmission does: after trouble, begin again behind what is committed."""
    publisher, done, begun = site.publisher(topic, f"kill-{topic}"), 0, False
    while done < len(chunks):
        try:
            if not begun:
                done = publisher.begin() or done
                begun = True
            publisher.send(chunks[done], PublishOptions(original_time=False))
            assert publisher.commit(done + 1) == []
            done += 1
        except TransientError:
            begun = False
            time.sleep(0.1)
    publisher.close()
