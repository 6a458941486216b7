"""Jobs whose processes are lost over and over: they are taken up again, but not for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Client, Site, Streams, order
from tests.servers import free_port, wait_until
from tests.servers.nats import Nats
from transforms.job_row import Row
from transforms.jobs.actions import create
from transforms.jobs.rows import at, new_row
from transforms.replay.options import Options
from transforms.replay.plans import new_job_id
from transforms.selection import Selection

MESSAGES = 300


@pytest.fixture
def api(site: Site, nats: Nats) -> Iterator[Client]:
    with site.serve({"main": nats.url}, inline_limit=10) as client:
        yield client


def asked(site: Site, api: Client, topic: str, **others: Any) -> str:
    site.archive(*(order(n) for n in range(MESSAGES)))
    body = {"destination": "main", "topic": topic, "selection": {"sources": ["orders"]}, **others}
    answer = api.post("/v1/resubmissions", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def look(site: Site, id: str) -> Row:
    return site.index.get_job(id) or {}


def lose(site: Site, id: str, before: int | None) -> int:
    """Kill the job's process, once it is another one than before; returns its id."""

    def another() -> int | None:
        pid = (look(site, id)["run"] or {}).get("pid")
        return None if pid == before else pid

    pid = wait_until(another, 120, "the job to be launched")
    os.kill(pid, signal.SIGKILL)
    return pid


def until(site: Site, id: str, state: str) -> Row:
    wait_until(lambda: look(site, id)["state"] == state, 240, f"the job to be {state}")
    return look(site, id)


def test_a_job_that_is_lost_five_times_without_progress_fails_and_can_be_resumed(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    id, process = asked(site, api, topic), None
    for _ in range(5):
        process = lose(site, id, process)
    failed = until(site, id, "FAILED")
    told = api.get(f"/v1/resubmissions/{id}").json()
    why = "Its process was lost 5 times without progress. Its process was killed by SIGKILL."
    assert (told["reason"], told["possible"]) == (why, ["resume"])
    assert (failed["attempts"], failed["lease"], failed["run"]["pid"]) == (5, None, process)
    assert failed["finished"] is not None
    assert streams.count(topic) == 0
    assert api.post(f"/v1/resubmissions/{id}/resume", json={}).status_code == 200
    done = until(site, id, "COMPLETED")
    assert (done["reason"], done["progress"]["published"]) == (None, MESSAGES)
    assert streams.payloads(topic) == [b"order %d" % n for n in range(MESSAGES)]


def test_progress_in_between_begins_the_count_anew(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    id, process = asked(site, api, topic, rate={"messages_per_second": 10}), None
    for _ in range(4):
        process = lose(site, id, process)
    wait_until(lambda: look(site, id)["progress"]["published"], 240, "the job to send")
    assert look(site, id)["attempts"] == 0
    for _ in range(4):
        process = lose(site, id, process)
    assert api.patch(f"/v1/resubmissions/{id}", json={"rate": {}}).status_code == 200
    assert until(site, id, "COMPLETED")["progress"]["published"] == MESSAGES
    assert streams.payloads(topic) == [b"order %d" % n for n in range(MESSAGES)]


def test_a_job_waits_for_a_launcher_that_is_away(
    site: Site, nats: Nats, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.jobs.leases.LEASE_SECONDS", 0.2)
    flink = f"http://127.0.0.1:{free_port()}"
    launcher = {"launcher": "flink", "launcher_config": {"flink_master": flink}}
    with site.serve({"main": nats.url}, inline_limit=10, **launcher) as api:
        id = asked(site, api, topic)

        def tried_seven_times() -> Row | None:
            row = look(site, id)  # which a try changes twice
            return row if row["state"] == "FAILED" or (row["version"] >= 14 and not row["attempts"]) else None

        row = wait_until(tried_seven_times, 120, "the launcher to be asked")
        why = f"Waiting to try again: Flink at {flink} does not answer: ConnectionError"
        assert (row["state"], row["reason"], row["attempts"]) == ("RUNNING", why, 0)
        assert api.get(f"/v1/resubmissions/{id}").json()["reason"] == why
        assert api.post(f"/v1/resubmissions/{id}/cancel", json={}).status_code == 200
        assert until(site, id, "CANCELLED")["progress"]["published"] == 0


def test_a_job_is_held_while_its_launcher_takes_its_time(
    site: Site, nats: Nats, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.jobs.leases.LEASE_SECONDS", 2.0)
    monkeypatch.setattr("resubmit_api.jobs.dispatcher._RENEWED_EVERY", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, contextlib.ExitStack() as stack:
        config = {"flink_master": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        launcher = {"launcher": "flink", "launcher_config": config}
        api = stack.enter_context(site.serve({"main": nats.url}, inline_limit=10, **launcher))
        stack.callback(silent.close)  # before the service, which waits for its launcher
        id, enough = asked(site, api, topic), at(8)
        wait_until(lambda: (look(site, id)["lease"] or {"until": ""})["until"] > enough, 60, "it to be held")
        assert (look(site, id)["state"], look(site, id)["attempts"]) == ("RUNNING", 1)


def test_jobs_beyond_the_first_page_are_attended_to(
    site: Site, nats: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resubmit_api.jobs.dispatcher._AT_A_TIME", 2)
    lease = {"owner": "other:1:x", "until": at(3600)}
    given: dict[str, Any] = {"selection": Selection(all=True), "options": Options(), "requested_by": None}
    oldest = new_row(destination="main", topic="t", id=new_job_id(60), state="CANCELLING", **given)
    for row in (oldest, *(new_row(destination="main", topic="t", lease=lease, **given) for _ in range(4))):
        create(site.index, row, "resubmit")
    with site.serve({"main": nats.url}):
        assert until(site, oldest["id"], "CANCELLED")["lease"] is None
    assert [row["state"] for row in site.index.list_jobs(9)] == [*["RUNNING"] * 4, "CANCELLED"]
