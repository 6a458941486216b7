"""A service with a day's archive behind it and a broker to send to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.api.conftest import Client, Site, Streams
from tests.e2e.data import fill
from tests.servers.nats import Nats

__all__ = ["Place", "open_place"]


class Elsewhere(Streams):
    """Asks the broker on a thread of its own: Playwright keeps an event loop on this one."""

    def _run(self, call: Any) -> Any:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(super()._run, call).result()


@dataclass
class Place:
    """Where the pages are, and what lies behind them; ``now`` is the newest message's time in µs."""

    url: str
    client: Client
    site: Site
    streams: Streams
    now: int


@contextlib.contextmanager
def open_place(directory: Path, nats: Nats, **options: Any) -> Iterator[Place]:
    """Serve the pages while the block runs; jobs run as processes of their own."""
    site, streams = Site.at(directory), Elsewhere(nats.url)
    now = fill(site.lake, site.index)
    try:
        with site.serve({"main": nats.url}, **options) as client:
            yield Place(client.url, client, site, streams, now)
    finally:
        site.index.close()
