"""What one caller can keep others from: connections, threads, and an index that hangs."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.api.auth._auth import RESUBMISSIONS, SEARCH, bearer, write_tokens
from tests.api.conftest import Client, Site, Streams, order
from tests.servers import wait_until
from tests.servers.mongodb import MongoDB
from tests.servers.nats import Nats
from transforms import registry

HALF = b"GET /v1/sources HTTP/1.1\r\nHost: localhost\r\nX-Long: "
CONNECTIONS = 600


def address(api: Client) -> tuple[str, int]:
    return "127.0.0.1", int(api.url.rpartition(":")[2])


def half_open(api: Client, held: contextlib.ExitStack) -> socket.socket:
    connection = held.enter_context(socket.create_connection(address(api), 10))
    connection.sendall(HALF)
    return connection


@contextlib.contextmanager
def watched(api: Client) -> Iterator[list[float]]:
    """Asks for the health all the time, and keeps how long each answer took."""
    over, took = threading.Event(), list[float]()

    def ask() -> None:
        while not over.wait(0.05):
            began = time.monotonic()
            assert requests.get(f"{api.url}/healthz", timeout=30).status_code == 200
            took.append(time.monotonic() - began)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield took
        finally:
            over.set()
            asking.result()


@pytest.fixture
def guarded(site: Site, tmp_path: Path, nats: Nats, mongodb: MongoDB) -> Iterator[Client]:
    """A service with tokens on an index that can be frozen."""
    url = f"{mongodb.url}_{uuid.uuid4().hex[:8]}"
    site.index.close()
    site.index_url, site.index = url, registry.index(url).open(url)
    site.archive(*(order(n) for n in range(50)))
    tokens = write_tokens(tmp_path / "tokens.yaml", "viewer", "operator", "admin")
    with site.serve({"main": nats.url}, tokens=tokens, answer_within=2.0, requests_per_minute=6000) as api:
        yield api


def test_health_is_answered_within_a_second_whatever_others_do(
    guarded: Client, mongodb: MongoDB, streams: Streams, topic: str
) -> None:
    worst = {"selection": {"where": [{"field": "key", "contains": f"x{n}"} for n in range(50)]}}
    viewers = [bearer("viewer")] * 8
    with contextlib.ExitStack() as held, ThreadPoolExecutor(60) as pool, watched(guarded) as took:
        for _ in range(CONNECTIONS):
            half_open(guarded, held)
        mongodb.pause()
        try:
            asked = [pool.submit(guarded.post, SEARCH, json=worst, headers=one) for one in viewers * 3]
            asked += [pool.submit(guarded.get, "/metrics", headers=bearer("wrong")) for _ in range(15)]
            asked += [pool.submit(guarded.get, "/readyz") for _ in range(15)]
            before = len(took)
            wait_until(lambda: len(took) > before + 40, 60, "the health to be asked for often")
        finally:
            mongodb.resume()
        sent = guarded.post(
            RESUBMISSIONS,
            json={"destination": "main", "topic": topic, "selection": {"sources": ["orders"]}},
            headers=bearer("operator"),
        )
        began = time.monotonic()
        wait_until(lambda: streams.count(topic) > 0, 30, "the first message to be sent")
        assert (sent.status_code, time.monotonic() - began < 5) == (202, True)
        assert {one.result().status_code for one in asked} <= {200, 401, 422, 429, 503}
    assert max(took) < 1


def test_a_request_that_is_refused_does_not_wait_for_the_audit_trail(
    guarded: Client, mongodb: MongoDB
) -> None:
    mongodb.pause()
    try:
        began = time.monotonic()
        assert guarded.get("/v1/sources", headers=bearer("wrong")).status_code == 401
        assert guarded.get("/v1/audit", headers=bearer("viewer")).status_code == 403
        assert time.monotonic() - began < 2
    finally:
        mongodb.resume()

    def trail() -> bool:
        records = guarded.get("/v1/audit", headers=bearer("admin")).json()["records"]
        return [record["action"] for record in records] == ["denied", "refused"]

    wait_until(trail, 60, "both to be recorded")


def test_a_request_that_does_not_get_ready_ends(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resubmit_api.server._HEADERS_WITHIN", 1.0)
    with contextlib.ExitStack() as held:
        connection = half_open(api, held)
        with contextlib.suppress(ConnectionError):  # however much of it goes on to come
            wait_until(lambda: not connection.send(b"x"), 30, "the server to close it")


def test_more_requests_than_can_wait_are_refused_at_once(
    guarded: Client, mongodb: MongoDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resubmit_api.server._MOST_WAITING", 5)
    with ThreadPoolExecutor(30) as pool:
        mongodb.pause()
        try:
            ask = [pool.submit(guarded.get, "/v1/sources", headers=bearer("viewer")) for _ in range(30)]
            refused = wait_until(lambda: [a for a in ask if a.done()], 20, "some to be refused")
            assert refused[0].result().status_code == 503
            assert refused[0].result().headers["Retry-After"] == "5"
        finally:
            mongodb.resume()
        assert {one.result().status_code for one in ask} == {200, 503}
