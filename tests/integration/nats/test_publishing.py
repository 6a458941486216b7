"""What is sent to NATS: its own headers, repeats, limits of streams, lost connections."""

from __future__ import annotations

import pytest

from tests._brokers import NatsSite, fetch, messages, numbered, reading, together
from tests.integration.nats._streams import (
    add_stream,
    data,
    stream,
)
from tests.servers import wait_until
from transforms import registry
from transforms.brokers import Acknowledgement, Partition, PublishOptions
from transforms.errors import TransientError


def test_what_a_native_producer_sent_is_archived_as_it_was(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    headers = {"Nats-Msg-Id": "order-7", "version": "2"}
    nats.do(lambda js: js.publish(f"{stem}.a", b"\x00\xff", headers=headers))
    nats.do(lambda js: js.publish(f"{stem}.a", b""))
    with reading(nats.reader(f"{stem}.a")) as reader:
        read = together(fetch(reader, 2))
    assert read["data"].to_pylist() == [b"\x00\xff", b""]
    assert read["headers"].to_pylist() == [
        [{"name": "Nats-Msg-Id", "value": b"order-7"}, {"name": "version", "value": b"2"}],
        [],
    ]


def test_an_archived_order_to_the_server_is_not_obeyed_again(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem, allow_rollup_hdrs=True)
    nats.publish(f"{stem}.a", numbered(5))
    orders = [{"name": "Nats-Rollup", "value": b"all"}, {"name": "Nats-Expected-Stream", "value": b"other"}]
    nats.publish(f"{stem}.a", messages({"data": b"last", "headers": orders}))
    assert stream(nats, stem).state.messages == 6
    stored = nats.do(lambda js: js.get_msg(stem, 6)).headers or {}
    assert stored["Persistor-Nats-Rollup"] == "all"
    with reading(nats.reader(f"{stem}.a")) as reader:
        assert together(fetch(reader, 6))["headers"].to_pylist()[5] == orders


def test_the_same_lane_repeats_nothing_and_another_job_sends_again(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    sent = numbered(100)
    for name in ("job-1-0", "job-1-0", "job-2-0", None, None):
        publisher = nats.publisher(f"{stem}.a", name)
        publisher.begin()
        publisher.send(sent, PublishOptions())
        assert publisher.commit(100) == []
        publisher.close()
    assert stream(nats, stem).state.messages == 400


def test_limits_of_the_stream_name_the_messages_that_it_refuses(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem, max_msg_size=1000)
    publisher = nats.publisher(f"{stem}.a")
    assert publisher.destination().max_bytes == 1000
    publisher.begin()
    sent = messages({"data": b"a"}, {"data": bytes(1001)}, {"headers": [{"name": "h", "value": b"\n"}]})
    publisher.send(sent, PublishOptions())
    assert {one.id for one in publisher.commit(0)} == set(sent["id"].to_pylist()[1:])
    publisher.close()
    assert stream(nats, stem).state.messages == 1


def test_a_lost_connection_makes_the_commit_unknown(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    publisher = nats.publisher(f"{stem}.a", "lane")
    publisher.begin()
    nats.server.pause()
    publisher.send(numbered(10), PublishOptions())
    nats.server.kill()
    with pytest.raises(TransientError):
        publisher.commit(1)
    with pytest.raises(TransientError):
        publisher.begin()
    nats.server.start()
    assert publisher.begin() is None
    publisher.send(numbered(3), PublishOptions())
    assert publisher.commit(1) == []
    publisher.close()


def test_a_subject_that_lost_its_stream_is_trouble_and_no_success(nats: NatsSite, stem: str) -> None:
    publisher = nats.publisher(f"{stem}.nobody")
    publisher.begin()
    publisher.send(numbered(1), PublishOptions())
    with pytest.raises(TransientError, match="no stream"):
        publisher.commit(0)
    publisher.close()


def test_several_servers_are_tried_in_turn(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    host = f"127.0.0.1:{nats.server.port}"
    url = f"nats://127.0.0.1:1,{host}/{stem}.>"
    reader = registry.broker(url).open_reader(url, {}, group="g")
    assert list(reader.discover()) == [Partition(f"{stem}.>", 0)]
    reader.close()


def test_a_reader_says_while_the_server_is_away_and_goes_on_after(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    with reading(nats.reader(f"{stem}.>")) as reader:
        reader.poll(0.1)
        nats.server.kill()
        with pytest.raises(TransientError, match="cannot be reached"):
            wait_until(lambda: reader.poll(0.5), 60, "trouble")
        nats.server.start()
        nats.publish(f"{stem}.a", numbered(10))
        assert data(fetch(reader, 10)) == [b"%d" % number for number in range(10)]


def test_a_late_acknowledgement_never_meets_the_stream_s_successor(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    partition = Partition(f"{stem}.>", 0)
    nats.publish(f"{stem}.a", numbered(50))
    with reading(nats.reader(partition.topic)) as late:
        fetch(late, 50)
        nats.delete(stem)
        add_stream(nats, stem)
        nats.publish(f"{stem}.a", numbered(100))
        with reading(nats.reader(partition.topic)) as reader:
            reader.poll(0.5)
            late.acknowledge([Acknowledgement(partition, 51)])
            assert reader.committed([partition]).get(partition) is None
        assert late.poll(0.5) == [], "positions of the old stream mean nothing in the new one"
