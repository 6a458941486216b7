"""What every publisher must do: messages arrive unchanged, in order, and what cannot is named."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa

from tests._brokers import (
    Site,
    acknowledgement,
    contents,
    fetch,
    messages,
    numbered,
    reading,
    together,
)
from transforms.brokers import (
    PublishOptions,
    Undelivered,
)
from transforms.entries import traits
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


def carried(site: Site, topic: str) -> pa.Table:
    """The shapes that this broker says it carries."""
    publisher = site.publisher(topic)
    carries = int(publisher.destination().carries)
    publisher.close()
    needed = traits(SHAPES).to_numpy()
    return SHAPES.filter(pa.array((needed & ~np.int32(carries)) == 0))


class TestPublishing:
    def test_what_is_published_is_read_back_unchanged(self, site: Site) -> None:
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
        assert all(
            before < moment < before + timedelta(minutes=5) for moment in read["publish_time"].to_pylist()
        )

    def test_what_was_sent_again_is_still_unchanged(self, site: Site) -> None:
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

    def test_extra_headers_follow_the_message_s_own(self, site: Site) -> None:
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

    def test_order_and_count_are_kept_over_many_messages(self, site: Site) -> None:
        topic, sent = site.topic(), numbered(20_000)
        site.publish(topic, sent)
        with reading(site.reader(topic)) as reader:
            read = together(fetch(reader, 20_000))["data"].to_pylist()
        expected = sent["data"].to_pylist()
        assert read == expected if site.ordered else sorted(read) == sorted(expected)

    def test_a_message_over_the_limit_is_named_and_the_others_arrive(self, site: Site) -> None:
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
