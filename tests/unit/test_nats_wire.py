"""Messages are taken from the wire whole, however it is cut."""

from __future__ import annotations

import asyncio
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.brokers.nats.wire import Raw, RawClient

WORDS = st.binary(min_size=1, max_size=5).map(lambda b: b.hex().encode())
MESSAGES = st.tuples(
    WORDS,
    st.one_of(st.just(b""), WORDS),
    st.one_of(st.just(b""), st.just(b"NATS/1.0\r\na: 1\r\n\r\n")),
    st.binary(max_size=40),
)


def on_the_wire(message: Raw, sid: bytes) -> bytes:
    subject, reply, header, data = message
    words = [subject, sid, *([reply] if reply else [])]
    if header:
        words.append(b"%d" % len(header))
    words.append(b"%d" % (len(header) + len(data)))
    return (b"HMSG " if header else b"MSG ") + b" ".join(words) + b"\r\n" + header + data + b"\r\n"


@given(st.lists(st.one_of(MESSAGES, st.just(b"+OK\r\n"))), st.lists(st.integers(1, 60), min_size=1))
@settings(max_examples=100, deadline=None)
def test_any_cut_gives_the_same_messages(parts: list[Raw | bytes], lengths: list[int]) -> None:
    wire = b"".join(part if isinstance(part, bytes) else on_the_wire(part, b"7") for part in parts)
    received = list[Raw]()
    client = RawClient({b"7": received}, threading.Event())

    async def feed() -> None:
        at = 0
        while at < len(wire):
            length = lengths[at % len(lengths)]
            await client._ps.parse(wire[at : at + length])
            at += length

    asyncio.run(feed())
    assert received == [part for part in parts if not isinstance(part, bytes)]


def test_messages_of_other_subscriptions_go_to_nats_py_s_own_parser() -> None:
    ours, seen = list[Raw](), list[int]()

    class Recording(RawClient):
        def _build_message(self, sid: int, *rest: object) -> None:
            seen.append(sid)

    client = Recording({b"7": ours}, threading.Event())
    client._subs[8] = type("Sub", (), {"_received": 0, "_max_msgs": 0})()
    message = (b"s", b"", b"", b"d")
    wire = on_the_wire(message, b"7") + on_the_wire(message, b"8") + on_the_wire(message, b"7")
    asyncio.run(client._ps.parse(wire))
    assert ours == [message, message]
    assert seen == [8]
