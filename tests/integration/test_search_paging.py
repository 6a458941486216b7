"""Paging through 100,000 hits of the running API while matching messages are being added."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests._entries import stream
from tests.api.conftest import Client, Site
from tests.servers.mongodb import MongoDB
from transforms import registry
from transforms.indexes import Index

_HITS = 100_000
_SELECTION = {"sources": ["orders"], "where": [{"offset": {"gte": 0}}]}


@pytest.fixture(params=["sqlite", "mongodb"])
def index_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/index.db"
    mongodb: MongoDB = request.getfixturevalue("mongodb")
    return f"{mongodb.url}.paging_{uuid.uuid4().hex[:8]}"


@pytest.mark.timeout(300)
def test_each_hit_is_given_once_while_messages_are_added(index_url: str, tmp_path: Path) -> None:
    index: Index = registry.index(index_url).open(index_url)
    for first in range(0, _HITS, 10_000):
        index.insert(stream(first, 10_000))
    expected = {id for first in range(0, _HITS, 10_000) for id in stream(first, 10_000)["id"].to_pylist()}
    stop = threading.Event()
    adding = threading.Thread(target=_add, args=(index, stop))
    adding.start()
    try:
        with Site.at(tmp_path).serve({}, index=index_url) as api:
            found = list(_ids(api))
    finally:
        stop.set()
        adding.join()
    assert len(found) == len(set(found))
    assert expected <= set(found)


def _add(index: Index, stop: threading.Event) -> None:
    """Later messages that match too; with them the paging might never end, so a short page ends it."""
    for number in itertools.count():
        if stop.is_set():
            return
        index.insert(stream(_HITS + number * 20, 20))


def _ids(api: Client) -> Iterator[str]:
    cursor = None
    while True:
        body = {"selection": _SELECTION, "limit": 1000, **({"cursor": cursor} if cursor else {})}
        response = api.post("/v1/messages/search", json=body)
        assert response.status_code == 200, response.text
        page = response.json()
        yield from (message["id"] for message in page["messages"])
        cursor = page["next"]
        if cursor is None or len(page["messages"]) < 1000:
            return
