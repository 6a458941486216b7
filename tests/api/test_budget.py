"""Searches have a budget: what they cost others, and what their callers are advised."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from resubmit_api import asking
from resubmit_api.auth.tokens import digest_of
from tests._entries import stream
from tests.api.conftest import Client, Site, Streams, order
from tests.servers import wait_until
from tests.servers.nats import Nats

ENTRIES = 100_000
_OTHERS = [str(n) for n in range(9, 99)]
_TRUE: dict[str, object] = {"nin": _OTHERS, "ne": "x", "gte": "", "lt": "zz", "prefix": ""}
COSTLY = {"where": [{"attributes.version": _TRUE, "offset": -1}] * 33}
SEARCH = "/v1/messages/search"


@pytest.fixture
def site(site: Site) -> Site:
    for first in range(0, ENTRIES, 10_000):
        site.index.insert(stream(first, 10_000, "telemetry"))
    site.archive(order(0))
    return site


@contextlib.contextmanager
def served(site: Site, nats: Nats, tmp_path: Path) -> Iterator[tuple[Client, Client]]:
    """The service as a viewer and as an operator see it."""
    tokens = tmp_path / "tokens.yaml"
    roles = ("viewer", "operator")
    lines = [f"- {{name: {role}, role: {role}, sha256: '{digest_of(role)}'}}" for role in roles]
    tokens.write_text("\n".join(lines))
    with site.serve({"main": nats.url}, tokens=str(tokens)) as client:
        people = [Client(client.url) for _ in roles]
        for one, role in zip(people, roles, strict=True):
            one.headers["Authorization"] = f"Bearer {role}"
        yield people[0], people[1]


def test_a_search_that_takes_too_long_is_answered_with_one_that_does_not(
    site: Site, nats: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "SECONDS", 0.3)
    with site.serve({"main": nats.url}) as api:
        answer = api.post(SEARCH, json={"selection": COSTLY})
        assert answer.status_code == 422
        problem = answer.json()
        assert problem["type"] == "urn:persistor:problem:slow"
        narrower = json.loads(problem["detail"].partition(": ")[2])
        assert api.post(SEARCH, json={"selection": narrower}).status_code == 200
        page = api.get("/explore", params={"selection": json.dumps(COSTLY)})
        assert page.status_code == 422
        assert "Narrow the selection" in page.text
        assert "Search with this JSON" in page.text, "the form stays"


def test_more_conditions_than_a_search_takes_are_refused(site: Site, nats: Nats) -> None:
    clause = {f"attributes.a{n}": "1" for n in range(50)}
    with site.serve({"main": nats.url}) as api:
        answer = api.post(SEARCH, json={"selection": {"where": [clause] * 5}})
        assert answer.status_code == 422
        assert "at most 200 conditions, and this one has 250" in answer.json()["detail"]


def test_a_query_of_thousands_of_filters_is_refused_at_once(site: Site, nats: Nats) -> None:
    with site.serve({"main": nats.url}, compatible=(("c", "main"),)) as api:
        filters = [{"location_key": {"$eq": str(n)}} for n in range(20_000)]
        started = time.monotonic()
        answer = api.post("/query/c", json={"filters": filters})
        assert answer.status_code == 400
        assert "at most 100 filters" in answer.json()["error"]
        assert time.monotonic() - started < 5


def test_eight_costly_searches_stop_neither_health_nor_a_resubmission(
    site: Site, nats: Nats, streams: Streams, tmp_path: Path
) -> None:
    topic = streams.create("beside-searches")
    with served(site, nats, tmp_path) as (viewer, operator), ThreadPoolExecutor(8) as threads:
        body: dict[str, Any] = {"selection": COSTLY}
        costly = [threads.submit(viewer.post, SEARCH, json=body) for _ in range(8)]
        wait_until(lambda: asking._PLACES._value == 0, 30, "the searches to run")  # type: ignore[attr-defined]
        started = time.monotonic()
        assert operator.get("/healthz").ok
        assert time.monotonic() - started < 1
        asked = {"destination": "main", "topic": topic, "selection": {"ids": ["orders_0_0"]}}
        assert operator.post("/v1/resubmissions", json=asked).json()["state"] == "COMPLETED"
        assert time.monotonic() - started < 5
        assert {one.result().status_code for one in costly} <= {422, 503}
    assert streams.payloads(topic) == [b"order 0"]


def test_a_resubmission_is_accepted_before_its_selection_is_counted(
    site: Site, nats: Nats, streams: Streams
) -> None:
    topic = streams.create("not-counted")
    with site.serve({"main": nats.url}) as api:
        started = time.monotonic()
        asked = {"destination": "main", "topic": topic, "selection": COSTLY}
        answer = api.post("/v1/resubmissions", json=asked)
        assert time.monotonic() - started < 2.5
        assert (answer.status_code, answer.json()["mode"]) == (202, "job")
        api.post(f"/v1/resubmissions/{answer.json()['id']}/cancel")


def test_a_search_ends_when_its_client_leaves(
    site: Site, nats: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "SECONDS", 300.0)
    monkeypatch.setattr(asking, "_PLACES", threading.BoundedSemaphore(1))
    with site.serve({"main": nats.url}) as api:
        text = json.dumps({"selection": COSTLY}).encode()
        head = f"POST {SEARCH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        host, _, port = api.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
            wait_until(lambda: asking._PLACES._value == 0, 30, "the search to run")  # type: ignore[attr-defined]
        started = time.monotonic()
        wait_until(lambda: asking._PLACES._value == 1, 30, "the search to end")  # type: ignore[attr-defined]
        assert time.monotonic() - started < 3
