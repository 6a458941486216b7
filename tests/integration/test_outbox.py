"""What becomes of metadata messages and dead letters while their broker is away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests._brokers import NatsSite, installed, messages
from tests.servers import wait_until
from transforms.bundles.outbox import Outbox


@pytest.fixture(scope="module")
def site() -> Iterator[NatsSite]:
    with installed("nats") as found:  # of this module's own, since it is killed
        assert isinstance(found, NatsSite)
        yield found


@pytest.fixture
def topic(site: NatsSite) -> str:
    return site.topic()


@pytest.fixture
def outbox(site: NatsSite, topic: str) -> Iterator[Outbox]:
    opened = Outbox("metadata", site.url(topic), {})
    yield opened
    opened.close()


def send(outbox: Outbox, *data: bytes) -> None:
    for one in data:
        outbox.send(messages({"data": one}))


def stored(site: NatsSite, topic: str) -> set[bytes]:
    """A message may be there twice, so this is a set."""
    last = site.do(lambda js: js.stream_info(topic)).state.last_seq
    return {site.do(lambda js, n=n: js.get_msg(topic, n)).data or b"" for n in range(1, last + 1)}  # type: ignore[misc]


def wait_for_the_loss(outbox: Outbox) -> None:
    connection = outbox._publisher._connection  # type: ignore[attr-defined]
    wait_until(lambda: not connection.alive, 20, "the connection to be lost")


def test_what_is_sent_while_the_broker_is_away_is_there_once_it_is_confirmed(
    site: NatsSite, topic: str, outbox: Outbox
) -> None:
    send(outbox, b"0")
    outbox.confirm()
    with site.server.killed():
        wait_for_the_loss(outbox)
        send(outbox, b"1", b"2")
    outbox.confirm()
    assert stored(site, topic) == {b"0", b"1", b"2"}


def test_what_was_under_way_when_the_broker_went_away_is_there_once_it_is_confirmed(
    site: NatsSite, topic: str, outbox: Outbox
) -> None:
    send(outbox, b"0")
    with site.server.killed():
        wait_for_the_loss(outbox)
        send(outbox, b"1")
    send(outbox, b"2")
    outbox.confirm()
    send(outbox, b"3")
    outbox.confirm()
    assert stored(site, topic) == {b"0", b"1", b"2", b"3"}


def test_a_broker_that_is_away_from_the_start_is_waited_for(
    site: NatsSite, topic: str, outbox: Outbox
) -> None:
    with site.server.killed():
        send(outbox, b"0")
    outbox.confirm()
    assert stored(site, topic) == {b"0"}


def test_what_a_failed_bundle_left_behind_is_not_sent(site: NatsSite, topic: str, outbox: Outbox) -> None:
    with site.server.killed():
        send(outbox, b"0")
    outbox.forget()
    send(outbox, b"1")
    outbox.confirm()
    assert stored(site, topic) == {b"1"}
