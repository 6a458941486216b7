"""What the service sends at the end of a resubmission, and what is noted about it."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from resubmit_api.app import create_app
from tests.api._jobs import body, post, until
from tests.api.conftest import Client, Site, Streams, order
from tests.servers import wait_until
from tests.servers.nats import Nats
from transforms.errors import ConfigurationError
from transforms.jobs.leases import change
from transforms.replay.plans import new_job_id

PROGRAM = Path(sys.executable).with_name("persistor")
SECRET = "s" * 32


class Listener:
    """A server that gives these answers in turn, then 204; None closes the connection without any."""

    def __init__(self, *answers: int | None) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        left, received = list(answers), self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                received.append((dict(self.headers), content))
                answer = left.pop(0) if left else 204
                if answer is not None:
                    self.send_response(answer)
                    self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/ended?token=1"

    @contextlib.contextmanager
    def listening(self) -> Iterator[Listener]:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()


def content(received: tuple[dict[str, str], bytes]) -> dict[str, Any]:
    headers, text = received
    time, _, digest = headers["Persistor-Signature"].partition(",v1=")
    signed = time.removeprefix("t=").encode() + b"." + text
    assert hmac.compare_digest(digest, hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest())
    return dict(json.loads(text))


def test_the_end_of_a_resubmission_is_reported_signed_until_it_is_accepted(
    site: Site, nats: Nats, topic: str
) -> None:
    site.archive(order(0, data=b"secret payload"))
    with Listener(500, None, 302).listening() as listener:
        hook = {"webhook": listener.url, "webhook_secret": SECRET}
        with site.serve({"main": nats.url}, **hook) as api:
            job = post(api, "resubmissions", body(topic, note="TICKET-1"), 202)
            wait_until(lambda: len(listener.received) == 4, 60, "it to be accepted")
            wait_until(
                lambda: (site.index.get_job(job["id"]) or {}).get("notify") == "sent", 30, "that to be noted"
            )
    said = [content(one) for one in listener.received]
    assert len({one[0]["Persistor-Delivery"] for one in listener.received}) == 1
    assert said[0] == said[3]
    expected = {"id": job["id"], "state": "COMPLETED", "note": "TICKET-1", "published": 1, "topic": topic}
    assert said[0].items() >= expected.items()
    assert b"secret payload" not in listener.received[0][1]


def test_a_large_job_and_what_a_dead_process_did_not_report_are_reported(
    site: Site, nats: Nats, topic: str, streams: Streams
) -> None:
    site.archive(*(order(n) for n in range(30)))
    with Listener().listening() as listener:
        hook = {"webhook": listener.url, "webhook_secret": SECRET, "inline_limit": 10}
        with site.serve({"main": nats.url}, **hook) as api:
            job = post(api, "resubmissions", body(topic), 202)
            until(api, job, "COMPLETED")
            wait_until(lambda: len(listener.received) == 1, 60, "it to be reported")
        change(site.index, job["id"], lambda row: {**row, "notify": "due"})
        with site.serve({"main": nats.url}, **hook):
            wait_until(lambda: len(listener.received) == 2, 60, "it to be found and reported")
    assert {content(one)["id"] for one in listener.received} == {job["id"]}
    assert streams.count(topic) == 30


def test_a_webhook_needs_an_address_and_a_secret(site: Site) -> None:
    with pytest.raises(ConfigurationError) as refused:
        create_app(site.settings({"main": "nats://127.0.0.1:1"}, webhook="ftp://x", webhook_secret="short"))
    assert [problem.split("`")[1] for problem in refused.value.problems] == ["webhook", "webhook_secret"]


def test_a_note_is_kept_shown_and_changed(site: Site, api: Client, topic: str) -> None:
    site.archive(order(0))
    job = post(api, "resubmissions", body(topic, note="TICKET-7 <b>"), 202)
    assert job["note"] == "TICKET-7 <b>"
    for page in ("/jobs", f"/jobs/{job['id']}"):
        assert "TICKET-7 &lt;b&gt;" in api.get(page).text
    command = [PROGRAM, "jobs", "--index", site.index_url, "--job", job["id"]]
    assert "TICKET-7" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    address = f"/v1/resubmissions/{job['id']}"
    assert api.patch(address, json={"note": "TICKET-8"}).json()["note"] == "TICKET-8"
    trail = api.get(f"/v1/audit?job={job['id']}").json()["records"]
    assert [(record["action"], record["note"]) for record in trail] == [
        ("note", "TICKET-8"),
        ("resubmit", "TICKET-7 <b>"),
    ]
    form = {"note": "by form"}
    assert api.post(f"/jobs/{job['id']}/note", data=form, allow_redirects=False).status_code == 303
    assert api.get(address).json()["note"] == "by form"
    assert api.patch(address, json={"note": ""}).json()["note"] is None
    for wrong in ({}, {"note": "x" * 501}, {"note": "a", "rate": {}}):
        assert api.patch(address, json=wrong).status_code == 422
    assert api.patch(f"/v1/resubmissions/{new_job_id()}", json={"note": "x"}).status_code == 404
