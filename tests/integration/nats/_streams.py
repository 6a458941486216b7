"""What the tests of NATS share: streams and their consumers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo, StreamInfo

from tests._brokers import NatsSite, together
from transforms.reading.buffers import Limits
from transforms.reading.source import Source


def add_stream(nats: NatsSite, name: str, **config: Any) -> None:
    nats.do(lambda js: js.add_stream(name=name, **{"subjects": [f"{name}.>"], **config}))


def stream(nats: NatsSite, name: str) -> StreamInfo:
    return nats.do(lambda js: js.stream_info(name))


def durables(nats: NatsSite, name: str) -> list[ConsumerInfo]:
    return [one for one in nats.do(lambda js: js.consumers_info(name)) if one.config.durable_name]


def drop_readers(nats: NatsSite, name: str) -> None:
    async def drop(js: JetStreamContext) -> None:
        for one in await js.consumers_info(name):
            if not one.config.durable_name:
                await js.delete_consumer(name, one.name)

    nats.do(drop)


def data(fetched: list[Any]) -> list[bytes]:
    return list(together(fetched)["data"].to_pylist())


def source(nats: NatsSite, subject: str, lake: Path) -> Source:
    return Source(nats.url(subject), lake=f"file://{lake}", limits=Limits(age=0.1))


def delivered(nats: NatsSite, name: str) -> int:
    (reader,) = [one for one in nats.do(lambda js: js.consumers_info(name)) if not one.config.durable_name]
    return reader.delivered.stream_seq if reader.delivered else 0
