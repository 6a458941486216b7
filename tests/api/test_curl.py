"""Every command line that a page shows runs as it is shown."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resubmit_api.auth.tokens import digest_of
from tests.api.conftest import Client, Site, Streams, order
from tests.servers import Unavailable, tool
from tests.servers.nats import Nats

SLOW = {"messages_per_second": 5.0, "bytes_per_second": None}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, nats: Nats, streams: Streams) -> Iterator[Client]:
    site = Site.at(tmp_path_factory.mktemp("curl"))
    site.archive(*map(order, range(40)), source="orders")
    site.archive(order(0, headers=[{"name": "persistor-error-category", "value": b"gave_up"}]), source="dead")
    for name in ("orders-replay", "curl-replay"):
        streams.create(name)
    line = {"name": "admin", "role": "admin", "sha256": digest_of("t-admin")}
    (site.directory / "tokens.yaml").write_text(json.dumps([line]))
    with site.serve({"main": nats.url}, tokens=str(site.directory / "tokens.yaml"), inline_limit=1) as client:
        client.headers["Authorization"] = "Bearer t-admin"
        yield client
    site.index.close()


def commands(service: Client, path: str) -> list[str]:
    """What a page shows, its parts that come later included."""
    page = service.get(path)
    assert page.status_code == 200, page.text
    return [html.unescape(text) for text in re.findall(r"<code>(curl .*?)</code>", page.text, re.DOTALL)]


def run(command: str, directory: Path, **variables: str) -> Any:
    """What the command prints, which fails where its request is not answered with success."""
    assert command.startswith("curl -sS ")
    strict = command.replace("curl -sS ", "curl -sS --fail-with-body ", 1)
    settings = {"PATH": os.environ["PATH"], "PERSISTOR_TOKEN": "t-admin", **variables}
    done = subprocess.run(
        ["sh", "-c", strict], cwd=directory, env=settings, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def plan(service: Client) -> str:
    body = {"destination": "main", "topic": "curl-replay", "selection": {"sources": ["orders"]}}
    return str(service.post("/v1/plans", json=body).json()["id"])


@pytest.fixture(scope="module", autouse=True)
def curl() -> None:
    try:
        tool("curl", "sudo apt-get install curl")
    except Unavailable as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(
    "path",
    [
        "/overview",
        "/explore",
        '/explore?selection={"where": [{"key": "it\'s"}]}',
        "/messages/orders_0_1",
        "/jobs",
        "/dead-letters",
        "/audit",
        '/resubmit?topic=curl-replay&selection={"sources":["orders"]}',
    ],
)
def test_what_a_page_shows_runs(service: Client, tmp_path: Path, path: str) -> None:
    shown = commands(service, path)
    assert shown
    for command in shown:
        if "{origin}" not in command:  # to where the dead letters of this place came from there is no way
            run(command, tmp_path)


def test_a_payload_becomes_a_file(service: Client, tmp_path: Path) -> None:
    *_, payload = commands(service, "/messages/orders_0_1")
    run(payload, tmp_path)
    assert (tmp_path / "orders_0_1.bin").read_bytes() == b"order 1"


def test_a_job_is_run_and_controlled_by_what_its_page_shows(service: Client, tmp_path: Path) -> None:
    job = plan(service)
    found = commands(service, f"/jobs/{job}/estimate?messages_per_second=5")
    assert json.loads(run(found[0], tmp_path))["rate"] == SLOW
    for action, state in (("pause", "PAUSED"), ("resume", None), ("rate", None), ("cancel", None)):
        wanted = "-X PATCH" if action == "rate" else f"/{action} "
        [command] = [command for command in commands(service, f"/jobs/{job}") if wanted in command]
        told = json.loads(run(command, tmp_path))
        assert state is None or told["state"] == state
        assert told["id"] == job


def test_every_request_of_the_reference_runs(service: Client, tmp_path: Path) -> None:
    shown = commands(service, "/docs")
    assert len(shown) == len(service.get("/docs").text.split("<h3>Try</h3>")) - 1 > 15
    job = plan(service)
    for command in shown:
        if not re.search(r"/(approve|pause|resume|cancel|retry) |-X PATCH", command):
            run(command, tmp_path, JOB=job, MESSAGE="orders_0_1")
    controls = [command for command in shown if re.search(r"/(pause|resume|cancel) |-X PATCH", command)]
    service.post("/v1/resubmissions", json={"plan": job, "rate": SLOW}).raise_for_status()
    for name in ("/pause ", "/resume ", "-X PATCH", "/cancel "):
        [command] = [command for command in controls if name in command]
        run(command, tmp_path, JOB=job)
