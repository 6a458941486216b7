"""Two services on one index: what one of them leaves when it is killed, the other one brings to its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from resubmit_api.jobs.inline import LOST
from tests._processes import spawned
from tests.api.conftest import Client, Site, Streams, order
from tests.servers import wait_until
from tests.servers.mongodb import MongoDB
from tests.servers.nats import Nats
from transforms import registry
from transforms.lake import Lake
from transforms.replay.plans import new_job_id

PROGRAM = Path(sys.executable).with_name("persistor")
MESSAGES = 400
ENDED = {"COMPLETED", "FAILED"}


@pytest.fixture(params=["sqlite", "mongodb"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        url = f"sqlite://{tmp_path}/index.db"
        if request.param == "mongodb":
            url = stack.enter_context(MongoDB()).url
        index = stack.enter_context(contextlib.closing(registry.index(url).open(url)))
        yield Site(tmp_path, url, Lake(f"file://{tmp_path}/lake"), index)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Nats]:
    """A server of these tests alone, which is frozen meanwhile."""
    with Nats(tmp_path / "nats") as started:
        yield started


@contextlib.contextmanager
def replica(site: Site, server: Nats) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    given = {
        "index": site.index_url,
        "lake": site.lake.url,
        "destination": f"main={server.url}",
        "inline_limit": "50",
        "port": "0",
    }
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    with spawned([PROGRAM, "api", *words], stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("Listening on http://"), line
        yield process, Client(line.split()[2])


def ask(
    api: Client, path: str, topic: str, selection: dict[str, Any], **others: Any
) -> dict[str, Any] | None:
    """What was answered; None where the service died over it."""
    body = {"destination": "main", "topic": topic, "selection": selection, **others}
    try:
        return dict(api.post(f"/v1/{path}", json=body).json())
    except requests.RequestException:
        return None


def done(api: Client, job: dict[str, Any] | None) -> None:
    assert job is not None
    address = f"/v1/resubmissions/{job['id']}"
    wait_until(lambda: api.get(address).json()["state"] == "COMPLETED", 60, "a small one to end")


def jobs(site: Site) -> list[dict[str, Any]]:
    return site.index.list_jobs(100)


def test_every_job_of_a_killed_replica_ends_right(site: Site, server: Nats) -> None:
    site.archive(*(order(n) for n in range(MESSAGES)))
    streams, everything, few = Streams(server.url), {"sources": ["orders"]}, {"ids": ["orders_0_1"]}
    topics = [streams.create(f"t{new_job_id()}") for _ in range(7)]
    large, small = topics[:4], topics[4:]
    for n in range(3):
        streams.create(f"orders-{n}")
    with (
        replica(site, server) as (doomed, one),
        replica(site, server) as (_, other),
        ThreadPoolExecutor(6) as pool,
    ):
        rate = {"messages_per_second": 5}  # so that those that send do not end before all is made ready
        running = [ask(one, "resubmissions", topic, everything, rate=rate) or {} for topic in large]
        wait_until(lambda: all(streams.count(topic) for topic in large[:2]), 90, "jobs to send")
        for topic in small:  # connects it: what is asked next hangs in the middle
            done(one, ask(one, "resubmissions", topic, few))
        server.pause()
        asked = [pool.submit(ask, one, "resubmissions", topic, few) for topic in small]
        planned = [pool.submit(ask, one, "plans", f"{{topic}}-{n}", everything) for n in range(3)]
        wait_until(lambda: len(jobs(site)) >= 13, 60, "the jobs to be there")
        assert [row["plan"] for row in jobs(site) if row["state"] == "PLANNED"] == [None] * 3
        child = next(row["run"]["pid"] for row in jobs(site) if row["id"] == running[0]["id"])
        os.killpg(child, signal.SIGKILL)
        doomed.kill()
        doomed.wait()
        server.resume()
        for future in [*asked, *planned]:
            future.result()
        for job in running:
            assert other.patch(f"/v1/resubmissions/{job['id']}", json={"rate": {}}).status_code == 200
        check(site, other, {job["id"] for job in running}, streams)
        for topic in large:
            assert streams.payloads(topic) == [b"order %d" % n for n in range(MESSAGES)]


def check(site: Site, api: Client, large: set[str], streams: Streams) -> None:
    def settled() -> bool:
        return all(row["state"] in ENDED or (row["plan"] and row["state"] == "PLANNED") for row in jobs(site))

    wait_until(settled, 150, "every job to end")
    for row in jobs(site):
        told = api.get(f"/v1/resubmissions/{row['id']}").json()
        if row["id"] in large:
            assert (told["state"], told["progress"]["published"]) == ("COMPLETED", MESSAGES)
        elif row["state"] == "FAILED":
            assert (told["mode"], told["reason"]) == ("inline", LOST)
        else:
            assert told["plan"]["messages"] == {"inline": 1, "job": MESSAGES}[told["mode"]]
    lost = [row for row in jobs(site) if row["state"] == "FAILED"]
    assert len(lost) == 3
    assert all(row["lease"] is None for row in jobs(site))
