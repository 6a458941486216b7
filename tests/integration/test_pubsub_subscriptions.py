"""What is particular to Pub/Sub: deadlines, giving back, attributes, ordering keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import pubsub_v1
from prometheus_client import REGISTRY

from tests._brokers import PubsubSite, fetch, installed, messages, numbered, reading, together
from tests._reading import reading as archiving
from tests.integration.harness import Archive, Persist
from tests.servers import wait_until
from tests.servers.pubsub import PROJECT, Pubsub
from transforms.brokers import Acknowledgement, Partition, PublishOptions
from transforms.brokers.pubsub import open_publisher, open_reader
from transforms.errors import ConfigurationError, TransientError
from transforms.lake import Lake
from transforms.reading import acknowledging
from transforms.reading.buffers import Limits
from transforms.reading.source import Source


@pytest.fixture(scope="module")
def pubsub() -> Iterator[PubsubSite]:
    with installed("pubsub") as site:
        assert isinstance(site, PubsubSite)
        yield site


def subscribe(topic: str, name: str, **settings: object) -> None:
    request = {
        "name": f"projects/{PROJECT}/subscriptions/{name}",
        "topic": f"projects/{PROJECT}/topics/{topic}",
        **settings,
    }
    with pubsub_v1.SubscriberClient() as client:
        client.create_subscription(request=request)


def test_released_messages_come_again_at_once(pubsub: PubsubSite) -> None:
    topic = pubsub.topic()
    pubsub.publish(topic, numbered(10))
    with reading(pubsub.reader(topic)) as reader:
        first = fetch(reader, 10)
        kept, given_back = first[0].receipts[0], first[0].receipts[1:]
        reader.release([*given_back, *(receipt for one in first[1:] for receipt in one.receipts)])
        started = time.monotonic()
        again = together(fetch(reader, 9))
        assert time.monotonic() - started < 9, "before the deadline of 10 s"
        assert sorted(again["id"].to_pylist()) == sorted(together(first)["id"].to_pylist()[1:])
        reader.acknowledge([Acknowledgement(first[0].partition, 0, "", [kept])])


@pytest.mark.parametrize("refusal", [exceptions.InvalidArgument, exceptions.FailedPrecondition])
def test_ids_that_an_exactly_once_subscription_refuses_end_no_job(
    pubsub: PubsubSite, refusal: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = pubsub.topic()
    pubsub.publish(topic, numbered(1))
    with reading(pubsub.reader(topic)) as reader:
        [one] = fetch(reader, 1)
        client = reader._client  # type: ignore[attr-defined]
        asked = []

        def refuse(**request: Any) -> None:
            asked.append(request["ack_ids"])
            raise refusal("Some acknowledgement ids in the request were invalid.")

        monkeypatch.setattr(client, "acknowledge", refuse)  # the emulator takes every id
        reader.acknowledge([Acknowledgement(one.partition, 0, "", one.receipts)])
        assert asked == [list(one.receipts)]


def test_deadlines_are_extended_for_as_long_as_the_reader_is_polled(pubsub: PubsubSite) -> None:
    topic = pubsub.topic()
    subscribe(topic, f"{topic}-short", ack_deadline_seconds=10)
    pubsub.publish(topic, numbered(5))
    with reading(pubsub.reader(f"{topic}-short")) as reader:
        fetched = fetch(reader, 5)
        deadline = time.monotonic() + 14
        while time.monotonic() < deadline:
            assert reader.poll(1.0) == [], "delivered again although it is being worked on"
        receipts = [receipt for one in fetched for receipt in one.receipts]
        reader.acknowledge([Acknowledgement(fetched[0].partition, 0, "", receipts)])


def test_a_reader_that_nobody_polls_gives_its_messages_back(
    pubsub: PubsubSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = pubsub.topic()
    pubsub.publish(topic, numbered(5))
    with reading(pubsub.reader(topic)) as forgotten:
        fetch(forgotten, 5)
        monkeypatch.setattr("transforms.brokers.pubsub.deliveries._UNUSED", 1.0)
        with reading(pubsub.reader(topic)) as reader:
            assert sorted(together(fetch(reader, 5, 9))["data"].to_pylist()) == [b"0", b"1", b"2", b"3", b"4"]


def test_two_readers_share_a_subscription(pubsub: PubsubSite) -> None:
    topic = pubsub.topic()
    with reading(pubsub.reader(topic)) as one, reading(pubsub.reader(topic)) as other:
        pubsub.publish(topic, numbered(2000))
        read = list[bytes]()

        def finished() -> bool:
            for reader in (one, other):
                for fetched in reader.poll(0.1):
                    read.extend(fetched.messages["data"].to_pylist())
            return len(read) >= 2000

        wait_until(finished, 60, "2000 messages")
    assert sorted(read, key=int) == [b"%d" % number for number in range(2000)]


def test_one_source_names_several_subscriptions(pubsub: PubsubSite) -> None:
    topics = [pubsub.topic(), pubsub.topic()]
    reader = pubsub.reader(",".join(topics))
    found = reader.discover()
    reader.close()
    assert found == {Partition(topic, None): f"projects/{PROJECT}/topics/{topic}" for topic in topics}


def test_every_missing_subscription_is_named(pubsub: PubsubSite) -> None:
    reader = pubsub.reader(f"no-one,{pubsub.topic()},no-two")
    with pytest.raises(ConfigurationError) as problem:
        reader.discover()
    reader.close()
    assert [("no-one" in s, "no-two" in s) for s in problem.value.problems] == [(True, False), (False, True)]


def test_messages_of_one_key_come_in_order_where_ordering_is_enabled(pubsub: PubsubSite) -> None:
    topic = pubsub.topic()
    subscribe(topic, f"{topic}-ordered", enable_message_ordering=True)
    for number in range(5):
        pubsub.publish(topic, messages({"key": b"k", "data": b"%d" % number}))
    with reading(pubsub.reader(f"{topic}-ordered")) as reader:
        read = list[bytes]()
        while len(read) < 5:
            (fetched,) = fetch(reader, 1)
            read += fetched.messages["data"].to_pylist()
            assert fetched.messages["key"].to_pylist() == [b"k"] * len(fetched.messages)
            reader.acknowledge([Acknowledgement(fetched.partition, 0, "", fetched.receipts)])
    assert read == [b"0", b"1", b"2", b"3", b"4"]


def test_nothing_overtakes_what_has_failed(pubsub: PubsubSite) -> None:
    topic = f"{pubsub.topic()}-late"
    publisher = pubsub.publisher(topic)
    publisher.begin()
    sent = [messages({"key": b"k", "data": b"%d" % number}) for number in range(3)]
    publisher.send(sent[0], PublishOptions())
    pubsub.create(topic)
    for one in sent[1:]:
        publisher.send(one, PublishOptions())
    with pytest.raises(ConfigurationError, match="Pub/Sub refuses to publish"):
        publisher.commit(3)
    for one in [*sent, messages({"data": b"end"})]:
        publisher.send(one, PublishOptions())
    assert publisher.commit(4) == []
    publisher.close()
    with reading(pubsub.reader(topic)) as reader:
        assert sorted(together(fetch(reader, 4))["data"].to_pylist()) == [b"0", b"1", b"2", b"end"]


def test_attributes_are_sorted_by_name(pubsub: PubsubSite) -> None:
    topic = pubsub.topic()
    headers = [{"name": name, "value": b"1"} for name in ("b", "c", "a")]
    pubsub.publish(topic, messages({"data": b"d", "headers": headers}))
    with reading(pubsub.reader(topic)) as reader:
        (found,) = together(fetch(reader, 1))["headers"].to_pylist()
    assert [header["name"] for header in found] == ["a", "b", "c"]


def test_what_the_service_would_refuse_is_named_before_it_is_sent(pubsub: PubsubSite) -> None:
    topic = pubsub.topic()
    sent = messages(
        {"data": b"fine"},
        {"data": b""},
        {"headers": [{"name": "googclient", "value": b""}]},
        {"headers": [{"name": "", "value": b""}]},
        {"headers": [{"name": "n" * 257, "value": b""}]},
        {"headers": [{"name": "n", "value": bytes(1025)}]},
        {"headers": [{"name": f"n{number}", "value": b""} for number in range(101)]},
        {"data": b"d", "key": bytes(1025)},
        {"data": b"fine, too"},
    )
    publisher = pubsub.publisher(topic)
    publisher.begin()
    publisher.send(sent, PublishOptions())
    assert [one.id for one in publisher.commit(0)] == sent["id"].to_pylist()[1:-1]
    publisher.close()
    with reading(pubsub.reader(topic)) as reader:
        assert sorted(together(fetch(reader, 2))["data"].to_pylist()) == [b"fine", b"fine, too"]


def test_a_server_that_is_away_is_trouble_that_passes(pubsub: PubsubSite) -> None:
    with Pubsub() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUBSUB_EMULATOR_HOST", server.variables["PUBSUB_EMULATOR_HOST"])
        topic = pubsub.topic()
        with reading(pubsub.reader(topic)) as reader:
            reader.poll(0.1)
            server.kill()
            with pytest.raises(TransientError):
                wait_until(lambda: reader.poll(0.5), 60, "trouble")


def test_a_subscription_that_cannot_be_pulled_counts_as_blocked_until_it_can(tmp_path: Path) -> None:
    with installed("pubsub") as site:
        name = site.topic()

        def blocked() -> float:
            families = [
                family for family in REGISTRY.collect() if family.name == "persistor_partition_blocked"
            ]
            samples = [sample for family in families for sample in family.samples]
            return sum(sample.value for sample in samples if sample.labels["source"] == name)

        limits = Limits(messages=1, age=0.2)
        with archiving(Source(site.url(name), lake=f"file://{tmp_path}", limits=limits)) as opened:
            site.publish(name, numbered(1))
            opened.until(1)
            site.server.kill()
            wait_until(lambda: (opened.turn(), blocked() >= 1)[1], 60, "it to be blocked")
            site.server.start()
            site.create(name)
            [pulled] = opened.shard._reader._deliveries.values()  # type: ignore[attr-defined]
            wait_until(lambda: pulled._failure is None, 60, "it to be pulled")

            def read_again() -> bool:
                site.publish(name, numbered(1))
                opened.turn()
                return len(opened.ids) > 1 and blocked() == 0

            wait_until(read_again, 60, "it to be read again")


def test_a_job_that_stops_says_that_pubsub_does_not_say_what_waits(
    pubsub: PubsubSite, tmp_path: Path
) -> None:
    name = pubsub.topic()
    pubsub.publish(name, numbered(10))
    archive = Archive(Lake(f"file://{tmp_path}/lake"), f"sqlite://{tmp_path}/index.db")
    places = {"lake": archive.lake.url, "index": archive.index_url}
    with Persist(tmp_path / "log", source=pubsub.url(name), **places) as job:
        wait_until(lambda: bool(job.pid) and archive.indexed() == 10, 60, "the messages")
        job.drain()
    assert "is archived; how many wait at Pub/Sub only its own metrics say" in job.output()


def test_urls_and_settings_that_cannot_be_right_are_refused() -> None:
    for url in ("pubsub://", "pubsub://project", "pubsub:///name", "pubsub://project/a/b"):
        with pytest.raises(ConfigurationError):
            open_reader(url, {}, group="g")
    with pytest.raises(ConfigurationError, match="one topic"):
        open_publisher("pubsub://project/a,b", {})


def test_what_a_failed_bundle_held_is_delivered_again_and_what_is_durable_is_not(
    pubsub: PubsubSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = pubsub.topic()
    subscribe(topic, f"{topic}-long", ack_deadline_seconds=600)
    pubsub.publish(topic, numbered(10))
    limits = Limits(messages=5, age=0.2)
    with archiving(Source(pubsub.url(f"{topic}-long"), lake=f"file://{tmp_path}", limits=limits)) as opened:
        kept = opened.until(10).ready[0]
        opened.shard.durable([(kept.key, kept.acknowledgement)])
        failed = opened.ids[len(kept.batch.messages) :]
        with monkeypatch.context() as patch:
            patch.setattr(acknowledging, "_FAILED_AFTER", 0.0)
            opened.turn()
        opened.until(10 + len(failed))
    assert sorted(opened.ids[10:]) == sorted(failed)


def test_what_is_pulled_ahead_stays_within_memory(pubsub: PubsubSite) -> None:
    topic, memory = pubsub.topic(), 2**20
    for _ in range(4):
        pubsub.publish(topic, messages(*[{"data": bytes(20_000)}] * 50))
    with reading(pubsub.reader(topic, memory=memory)) as reader:
        read = fetch(reader, 1)
        [waiting] = reader._deliveries.values()  # type: ignore[attr-defined]
        wait_until(lambda: waiting._bytes >= memory, 30, "pulling to stop")
        time.sleep(2)
        assert waiting._bytes < 2 * memory
        fetch(reader, 200 - sum(len(one.messages) for one in read))
