"""The demo's messages: realistic orders and telemetry, published to and read from a plain NATS client.

It uses nats-py instead of our own backend, so that the comparison is independent.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import NamedTuple

import nats
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

__all__ = ["STREAMS", "Message", "Outgoing", "Traffic", "messages"]

STREAMS = {
    "ORDERS": "orders",
    "TELEMETRY": "telemetry",
    "METADATA": "persistor-metadata",
    "REPLAY": "orders-replay",
}
"""The demo's JetStream streams and their subjects."""

_ARTICLES = ("espresso beans 1 kg", "filter paper", "grinder", "Kännchen 0,5 l", "抹茶 30 g", "descaler")


class Message(NamedTuple):
    """The compared parts of a message: the payload and the headers."""

    data: bytes
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Outgoing:
    """A message to publish, with its subject."""

    subject: str
    message: Message


def messages(count: int, seed: int = 7) -> Iterator[Outgoing]:
    """Two orders for each telemetry reading; the same seed yields the same messages."""
    dice = random.Random(seed)  # noqa: S311 - random test data
    for number in range(count):
        yield _telemetry(dice, number) if number % 3 == 2 else _order(dice, number)


def _order(dice: random.Random, number: int) -> Outgoing:
    customer = f"customer-{dice.randrange(2000):04d}"
    lines = [
        {"article": dice.choice(_ARTICLES), "quantity": dice.randrange(1, 9)}
        for _ in range(dice.randrange(1, 5))
    ]
    order = {
        "order": f"2026-{number:06d}",
        "customer": customer,
        "lines": lines,
        "cents": dice.randrange(100, 90_000),
    }
    version = dice.choice("122223")
    headers = (("key", customer), ("version", version), ("content-type", "application/json"))
    return Outgoing("orders", Message(json.dumps(order, ensure_ascii=False).encode(), headers))


def _telemetry(dice: random.Random, number: int) -> Outgoing:
    device = dice.randrange(500)
    readings = [dice.gauss(21, 3) for _ in range(8)]
    data = struct.pack(">IQ8d", device, number, *readings) + dice.randbytes(dice.randrange(4, 60))
    headers = (("key", f"device-{device:03d}"), ("version", dice.choice("12")), ("unit", "°C"))
    return Outgoing("telemetry", Message(data, headers))


class Traffic:
    """A connection to the demo's server, as an async context manager."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = Client()

    async def __aenter__(self) -> Traffic:
        self._client = await nats.connect(self._url, allow_reconnect=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def create_streams(self) -> None:
        """Create the demo's streams."""
        stream = self._client.jetstream()
        for name, subject in STREAMS.items():
            await stream.add_stream(name=name, subjects=[subject])

    async def publish(self, outgoing: Iterator[Outgoing]) -> None:
        """Publish and wait until the server has confirmed every message."""
        stream = self._client.jetstream(publish_async_max_pending=1000)
        for one in outgoing:
            await stream.publish_async(one.subject, one.message.data, headers=dict(one.message.headers))
        await stream.publish_async_completed()

    async def read(
        self, subject: str, start: datetime | None = None, end: datetime | None = None
    ) -> list[Message]:
        """The messages of a subject published in ``[start, end)``, in order."""
        unacknowledged = ConsumerConfig(ack_policy=AckPolicy.NONE)
        consumer = await self._client.jetstream().pull_subscribe(subject, config=unacknowledged)
        found: list[Message] = []
        left = (await consumer.consumer_info()).num_pending or 0
        while left:
            for message in await consumer.fetch(min(left, 1000), timeout=10):
                published, left = message.metadata.timestamp, message.metadata.num_pending
                if (start is None or published >= start) and (end is None or published < end):
                    found.append(Message(message.data, _own(message.headers or {})))
        return found


def _own(headers: dict[str, str]) -> tuple[tuple[str, str], ...]:
    # Nats-Msg-Id is the server's key for repeats; the resubmission sets one of its own.
    return tuple((name, value) for name, value in headers.items() if not name.startswith("Nats-"))
