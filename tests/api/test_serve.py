"""The service as a process: where it listens, whom it answers, how it stops."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from resubmit_api.app import close_app, create_app
from resubmit_api.serve import serve
from resubmit_api.settings import ApiSettings
from tests._processes import spawned
from tests.api.conftest import Site, Streams, order
from tests.servers import free_port, wait_until
from tests.servers.nats import Nats
from transforms.errors import ConfigurationError

PROGRAM = Path(sys.executable).with_name("persistor")


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with spawned([PROGRAM, "api", *arguments], stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("Listening on http://"), line
        yield process, line.split()[2]


def arguments(site: Site, *others: str) -> list[str]:
    given = {"index": site.index_url, "lake": site.lake.url, "destination": "main=nats://127.0.0.1:1"}
    return [word for name, value in given.items() for word in (f"--{name}", value)] + list(others)


def settings(site: Site, **more: Any) -> ApiSettings:
    return site.settings({"main": "nats://127.0.0.1:1"}, **more)


def test_the_command_answers_and_ends_well_on_sigterm(site: Site) -> None:
    site.archive(order(0))
    with running(*arguments(site, "--port", "0")) as (process, url):
        assert requests.get(f"{url}/v1/messages/orders_0_0/payload", timeout=10).content == b"order 0"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_on_loopback_no_web_page_gets_in_under_a_name_of_its_own(site: Site) -> None:
    with running(*arguments(site, "--port", "0")) as (_, url):
        for name in ("localhost", "127.0.0.1", "localhost:8080", "[::1]:8080"):
            answer = requests.get(f"{url}/healthz", headers={"Host": name}, timeout=10)
            assert answer.status_code == 200
        refused = requests.get(f"{url}/healthz", headers={"Host": "evil.example:8080"}, timeout=10)
    assert refused.status_code == 400
    assert refused.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_without_tokens_only_loopback_is_listened_on(site: Site, host: str) -> None:
    with pytest.raises(ConfigurationError, match="without `tokens` everybody who reaches the API"):
        serve(settings(site, host=host))


def test_with_tokens_any_address_is_listened_on_and_any_name_answered(site: Site, tmp_path: Path) -> None:
    site.archive(order(0))
    tokens = tmp_path / "tokens.yaml"
    made = subprocess.run([PROGRAM, "token", "--name", "a"], capture_output=True, text=True, check=True)
    tokens.write_text(made.stdout)
    token = next(word for word in made.stderr.split() if word.startswith("persistor_"))
    with running(*arguments(site, "--port", "0", "--host", "0.0.0.0", "--tokens", str(tokens))) as (_, url):
        address = f"http://127.0.0.1:{url.rpartition(':')[2]}/v1/messages/orders_0_0"
        headers = {"Host": "any.example", "Authorization": f"Bearer {token}"}
        assert requests.get(address, headers=headers, timeout=10).status_code == 200
        assert requests.get(address, timeout=10).status_code == 401


def test_a_proxy_that_is_trusted_is_believed_and_nobody_else(site: Site, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text("[]")
    forwarded = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "x.example",
        "X-Forwarded-For": "192.0.2.7",
    }
    for proxy, secure in (("127.0.0.1", True), ("192.0.2.1", False)):
        words = arguments(site, "--port", "0", "--tokens", str(tokens), "--trusted_proxy", proxy)
        with running(*words) as (_, url):
            answer = requests.get(f"{url}/login", headers=forwarded, timeout=10)
            assert ("Strict-Transport-Security" in answer.headers) is secure


def test_it_says_that_it_lives_while_all_that_work_wait_and_many_hold_connections(
    site: Site, tmp_path: Path
) -> None:
    site.archive(order(0))
    with (
        Nats(tmp_path / "nats") as server,
        site.serve({"main": server.url}) as api,
        ThreadPoolExecutor(12) as pool,
        contextlib.ExitStack() as held,
    ):
        Streams(server.url).create("copy")
        body = {"destination": "main", "topic": "copy", "selection": {"ids": ["orders_0_0"]}}
        assert api.post("/v1/resubmissions", json=body).json()["state"] == "COMPLETED"
        server.pause()
        waiting = [pool.submit(api.post, "/v1/resubmissions", json=body) for _ in range(12)]
        wait_until(lambda: len(site.index.list_jobs(9)) > 1, 30, "the first of them to be worked on")
        address = ("127.0.0.1", int(api.url.rpartition(":")[2]))
        for _ in range(150):
            held.enter_context(socket.create_connection(address, 10)).send(b"GET /healthz")
        lives = requests.get(f"{api.url}/healthz", timeout=5).status_code
        server.resume()
        assert (lives, {future.result().status_code for future in waiting} <= {202, 503}) == (200, True)


def test_closing_leaves_no_thread_that_would_use_the_index(site: Site) -> None:
    before = set(threading.enumerate())
    app = create_app(site.settings({}))
    assert set(threading.enumerate()) > before
    close_app(app)
    assert set(threading.enumerate()) <= before


def test_a_port_in_use_is_named(site: Site) -> None:
    port = free_port()
    with (
        running(*arguments(site, "--port", str(port))),
        pytest.raises(ConfigurationError, match=f"`port: {port}`: Address already in use; choose another"),
    ):
        serve(settings(site, port=port))


def test_all_that_is_wrong_with_the_configuration_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        serve(
            ApiSettings(
                index="postgres://x",
                lakes=("ftp://x",),
                destination_urls=(("a", "smtp://x"), ("b", "nothing")),
                jobs_directory=tmp_path,
            )
        )
    assert len(raised.value.problems) == 4
    assert [problem.split("'")[1] for problem in raised.value.problems] == [
        "postgres",
        "ftp://x",
        "smtp",
        "nothing",
    ]


def test_the_service_never_loads_beam() -> None:
    code = (
        "import sys, resubmit_api.serve; sys.exit('apache_beam' in sys.modules or 'pipelines' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
