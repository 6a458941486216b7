"""What the tests of brokers share: topics on real servers, publishing, and reading until there is enough."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import nats
import pyarrow as pa
import pytest
from google.cloud import pubsub_v1
from nats.js import JetStreamContext

from tests._messages import row, table
from tests._traits import BrokerTrait
from tests.servers import Server, Unavailable
from tests.servers.kafka import Kafka
from tests.servers.nats import Nats
from tests.servers.pubsub import PROJECT, Pubsub
from transforms import registry
from transforms.brokers import Acknowledgement, Fetched, Partition, Publisher, PublishOptions, Reader
from transforms.errors import TransientError
from transforms.model import MESSAGE_SCHEMA

__all__ = [
    "SITES",
    "KafkaSite",
    "NatsSite",
    "PubsubSite",
    "Site",
    "installed",
    "jetstream",
    "messages",
    "reading",
]

_T = TypeVar("_T")
_numbers = itertools.count()
_ONE_WAY = "it is read in one way"


class Site:
    """A broker's server and how tests make topics on it.

    Attributes:
        lacks: the traits that it has not, with the reasons.
        ordered: whether one topic's messages come in the order in which they were sent.
        wrong: settings with credentials that the server at ``guarded`` refuses.
    """

    server: Server
    lacks: ClassVar[Mapping[BrokerTrait, str]] = {}
    ordered = True
    wrong: Mapping[str, str] = {}

    def topic(self) -> str:
        """A new topic, which a reader of :meth:`url` reads and a publisher of it fills."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.create(name)
        return name

    def create(self, name: str) -> None:
        raise NotImplementedError

    def delete(self, name: str) -> None:
        raise NotImplementedError

    def remove_before(self, name: str, position: int) -> None:
        """As retention would."""
        raise NotImplementedError

    def url(self, topic: str) -> str:
        return f"{self.server.url}/{topic}"

    @contextmanager
    def guarded(self) -> Iterator[str]:
        """The URL of a server that asks for credentials."""
        raise NotImplementedError

    def reader(self, topic: str, group: str = "", **given: Any) -> Reader:
        url = self.url(topic)
        return registry.broker(url).open_reader(url, {}, group=group or f"g-{topic}", **given)

    def publisher(self, topic: str, name: str | None = None) -> Publisher:
        url = self.url(topic)
        publisher: Publisher = registry.broker(url).open_publisher(url, {}, name=name)
        return publisher

    def publish(self, topic: str, sent: pa.Table) -> None:
        """Publish and expect every message to be confirmed."""
        publisher = self.publisher(topic)
        publisher.begin()
        publisher.send(sent, PublishOptions(original_time=False))
        assert publisher.commit(0) == []
        publisher.close()


class KafkaSite(Site):
    server: Kafka

    def __init__(self) -> None:
        self.server = Kafka()
        self.wrong = {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "persistor",
            "sasl.password": "wrong-password",
        }

    def create(self, name: str) -> None:
        self.server.create_topic(name)

    def delete(self, name: str) -> None:
        self.server.delete_topic(name)

    def remove_before(self, name: str, position: int) -> None:
        self.server.delete_records(name, 0, position)

    @contextmanager
    def guarded(self) -> Iterator[str]:
        yield f"kafka://{self.server.sasl_bootstrap}/t"


class NatsSite(Site):
    server: Nats
    lacks = {BrokerTrait.EXTENSION: _ONE_WAY}  # noqa: RUF012

    def __init__(self, server: Nats | None = None) -> None:
        self.server = server or Nats()
        self.wrong = {"user": "persistor", "password": "wrong-password"}

    def create(self, name: str) -> None:
        self.do(lambda js: js.add_stream(name=name, subjects=[name]))

    def delete(self, name: str) -> None:
        self.do(lambda js: js.delete_stream(name))

    def remove_before(self, name: str, position: int) -> None:
        self.do(lambda js: js.purge_stream(name, seq=position))

    def do(self, call: Callable[[JetStreamContext], Coroutine[Any, Any, _T]]) -> _T:
        return jetstream(self.server.url, call)

    @contextmanager
    def guarded(self) -> Iterator[str]:
        with Nats(login=True) as server:
            yield f"{server.url}/t"


class PubsubSite(Site):
    server: Pubsub
    lacks = {  # noqa: RUF012
        BrokerTrait.POSITIONS: "Pub/Sub hands out receipts, and each message on its own",
        BrokerTrait.DURABLE: "the emulator keeps messages in its memory",
        BrokerTrait.EXTENSION: _ONE_WAY,
    }
    ordered = False

    def __init__(self) -> None:
        self.server = Pubsub()

    def create(self, name: str) -> None:
        topic = f"projects/{PROJECT}/topics/{name}"
        pubsub_v1.PublisherClient().create_topic(name=topic)
        subscription = f"projects/{PROJECT}/subscriptions/{name}"
        pubsub_v1.SubscriberClient().create_subscription(name=subscription, topic=topic)

    @contextmanager
    def guarded(self) -> Iterator[str]:
        """Google itself, for somebody without credentials; nothing is asked over the network."""
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("PUBSUB_EMULATOR_HOST")
            patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
            yield f"pubsub://{PROJECT}/t"


SITES: dict[str, type[Site]] = {"kafka": KafkaSite, "nats": NatsSite, "pubsub": PubsubSite}


@contextmanager
def installed(name: str) -> Iterator[Site]:
    """The site of a broker with its server running; a skip where this machine cannot have it."""
    site = SITES[name]()
    try:
        site.server.install()
    except Unavailable as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    with site.server, pytest.MonkeyPatch.context() as patch:
        for variable, value in getattr(site.server, "variables", {}).items():
            patch.setenv(variable, value)
        yield site


def jetstream(url: str, call: Callable[[JetStreamContext], Coroutine[Any, Any, _T]]) -> _T:
    """One call to JetStream with nats-py."""

    async def connected() -> _T:
        client = await nats.connect(url)
        try:
            return await call(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(connected())


def messages(*rows: Mapping[str, Any]) -> pa.Table:
    """Messages to publish, each with an id that no other test uses."""
    return table(*(row(**{"id": f"t_0_{next(_numbers)}", **given}) for given in rows)).select(
        MESSAGE_SCHEMA.names
    )


def numbered(count: int, start: int = 0) -> pa.Table:
    """Messages whose data count up."""
    return messages(*({"data": b"%d" % number} for number in range(start, start + count)))


@contextmanager
def reading(reader: Reader, positions: Mapping[Partition, int] | None = None) -> Iterator[Reader]:
    """A reader that is assigned all it discovers, from the start where nothing else is said."""
    try:
        found = reader.discover()
        if positions is None:
            positions = reader.earliest(found)
        reader.assign(positions)
        yield reader
    finally:
        reader.close()


def fetch(
    reader: Reader, count: int, seconds: float = 60.0, writer: Future[None] | None = None
) -> list[Fetched]:
    """Poll until at least ``count`` messages are there; trouble that passes is waited out, but a writer's."""
    fetched, deadline = list[Fetched](), time.monotonic() + seconds
    while sum(len(one.messages) for one in fetched) < count:
        assert time.monotonic() < deadline, f"{[len(one.messages) for one in fetched]} of {count} messages"
        if writer is not None and writer.done():
            writer.result()
        try:
            fetched += reader.poll(0.5)
        except TransientError:
            time.sleep(0.05)
    return fetched


def together(fetched: Sequence[Fetched]) -> pa.Table:
    return pa.concat_tables([one.messages for one in fetched])


def contents(sent: pa.Table) -> list[str]:
    """What must survive of each message, in order; as text, so that it can be sorted."""
    return [json.dumps(one, default=str) for one in sent.select(["key", "data", "headers"]).to_pylist()]


def acknowledgement(fetched: Sequence[Fetched]) -> Acknowledgement:
    """Of all that was fetched of one partition."""
    receipts = [receipt for one in fetched for receipt in one.receipts]
    return Acknowledgement(fetched[-1].partition, fetched[-1].position, "", receipts)
