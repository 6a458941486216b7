"""A running service on real servers: waitress, SQLite, a lake of files, NATS JetStream."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats as nats_client
import pyarrow as pa
import pytest
import requests
from apiflask import APIFlask

from resubmit_api.app import close_app, create_app
from resubmit_api.serve import make_server
from resubmit_api.settings import ApiSettings
from tests._archive import INGESTED, archive
from tests._messages import row, table
from tests.servers.nats import Nats
from transforms import registry
from transforms.entries import entries
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.replay.plans import new_job_id

START = 1_700_000_000_000_000
"""Publish time of the first message, µs since 1970: 2023-11-14T22:13:20Z."""


class Client(requests.Session):
    """Requests to one running service; paths instead of URLs."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        return super().request(method, self.url + str(url), *args, timeout=120, **kwargs)


@dataclass
class Site:
    """Lake and index of one test, and where its service finds them."""

    directory: Path
    index_url: str
    lake: Lake
    index: Index

    @classmethod
    def at(cls, directory: Path) -> Site:
        url = f"sqlite://{directory}/index.db"
        return cls(directory, url, Lake(f"file://{directory}/lake"), registry.index(url).open(url))

    def archive(self, *rows: dict[str, Any], **options: Any) -> list[str]:
        return archive(self.lake, self.index, table(*rows), **options)

    def index_under(self, id: str, messages: pa.Table, location: str) -> None:
        """Index one message under an id and at a place that are not its own."""
        renamed = messages.set_column(0, messages.schema.field("id"), pa.array([id]))
        self.index.insert(entries(renamed, location, INGESTED))

    def settings(self, destinations: dict[str, str], **more: Any) -> ApiSettings:
        """Of a service for this index and this lake."""
        plain = {
            "index": self.index_url,
            "lakes": (self.lake.url,),
            "destination_urls": tuple(destinations.items()),
            "jobs_directory": self.directory / "jobs",
        }
        return ApiSettings(**plain | more)

    @contextlib.contextmanager
    def serve(
        self,
        destinations: dict[str, str],
        *,
        answer_within: float = 60.0,
        trusted_hosts: Sequence[str] | None = None,
        **settings: Any,
    ) -> Iterator[Client]:
        """A running service, which a slow machine is given time to end what it does at once."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("resubmit_api.jobs.inline._ANSWER_WITHIN", answer_within)
            yield from self._serve(
                create_app(self.settings(destinations, **settings), trusted_hosts=trusted_hosts)
            )

    def _serve(self, app: APIFlask) -> Iterator[Client]:
        server = make_server(app, host="127.0.0.1", port=0)
        threading.Thread(target=_run, args=(server,), daemon=True).start()
        try:
            yield Client(f"http://127.0.0.1:{server.effective_port}")
        finally:
            server.close()
            close_app(app)


def _run(server: Any) -> None:
    with contextlib.suppress(OSError):  # closed under its loop at the end of a test
        server.run()
    server.task_dispatcher.shutdown()


class Streams:
    """What lies in the streams of a NATS server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def create(self, name: str) -> str:
        self._run(lambda js: js.add_stream(name=name, subjects=[name]))
        return name

    def delete(self, name: str) -> None:
        self._run(lambda js: js.delete_stream(name))

    def count(self, name: str) -> int:
        return int(self._run(lambda js: js.stream_info(name)).state.messages)

    def payloads(self, name: str) -> list[bytes]:
        async def read(js: Any) -> list[bytes]:
            count = (await js.stream_info(name)).state.messages
            return [(await js.get_msg(name, seq)).data or b"" for seq in range(1, count + 1)]

        return list(self._run(read))

    def _run(self, call: Any) -> Any:
        async def connected() -> Any:
            client = await nats_client.connect(self._url)
            try:
                return await call(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(connected())


@pytest.fixture(scope="session")
def streams(nats: Nats) -> Streams:
    return Streams(nats.url)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site.at(tmp_path)
    yield made
    made.index.close()


@pytest.fixture
def api(site: Site, nats: Nats) -> Iterator[Client]:
    with site.serve({"main": nats.url}) as client:
        yield client


@pytest.fixture
def topic(streams: Streams) -> str:
    return streams.create(f"t{new_job_id()}")


def order(offset: int, **values: Any) -> dict[str, Any]:
    """A message of partition 0 of ``orders``, a second after the one before."""
    plain = {"topic": "orders", "offset": offset, "publish_time": START + offset * 1_000_000}
    return row(**{**plain, "data": b"order %d" % offset, **values})


def tamper(path: Path, messages: pa.Table, format: str = "parquet") -> None:
    """Replace a file of the lake, as a broken store would."""
    path.write_bytes(bytes(registry.format_of(format).encode(messages)))
