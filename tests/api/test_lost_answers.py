"""The index does what it is asked, and its answer is lost: nothing is sent twice, nothing is left unsaid."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests._archive import archive
from tests._messages import row, table
from tests.api.conftest import Client, Site, Streams, order
from tests.servers import wait_until
from tests.servers.mongodb import MongoDB
from tests.servers.nats import Nats
from tests.servers.relay import Relay
from transforms import registry
from transforms.dead_letters import dead_messages
from transforms.lake import Lake
from transforms.model import DeadLetter

SELECTION = {"sources": ["orders"]}
JOB_RATE = {"messages_per_second": 1000}
"""With a rate it is a job of its own, without one it is sent at once."""


@pytest.fixture
def site(mongodb: MongoDB, tmp_path: Path) -> Iterator[Site]:
    url = f"mongodb://127.0.0.1:{mongodb.port}/lost_{tmp_path.name[-40:].replace('-', '_')}"
    with contextlib.closing(registry.index(url).open(url)) as index:
        made = Site(tmp_path, url, Lake(f"file://{tmp_path}/lake"), index)
        made.archive(*(order(n) for n in range(20)))
        yield made


@pytest.fixture
def relay(mongodb: MongoDB) -> Iterator[Relay]:
    with Relay(mongodb.port) as made:
        yield made


@pytest.fixture
def api(site: Site, relay: Relay, nats: Nats) -> Iterator[Client]:
    through = re.sub(r":\d+/", f":{relay.port}/", site.index_url)
    with site.serve({"main": nats.url}, index=through) as client:
        yield client


def all_sent(site: Site, streams: Streams, topic: str) -> None:
    """One job, at its end, and each message once."""
    wait_until(
        lambda: [job["state"] for job in site.index.list_jobs(9)] == ["COMPLETED"], 90, "the job's end"
    )
    assert sorted(streams.payloads(topic)) == sorted(b"order %d" % n for n in range(20))
    assert [record["action"] for record in site.index.list_audit(9)] == ["resubmit"]


@pytest.mark.parametrize("rate", [{}, JOB_RATE])
def test_a_lost_answer_is_asked_for_again_and_nothing_is_sent_twice(
    site: Site, relay: Relay, api: Client, streams: Streams, topic: str, rate: dict[str, int]
) -> None:
    relay.lose(1, b"insert\0")
    body = {"destination": "main", "topic": topic, "selection": SELECTION, "rate": rate}
    assert api.post("/v1/resubmissions", json=body).status_code == 202
    assert relay.lost == 1
    all_sent(site, streams, topic)


def test_where_it_stays_unknown_whether_a_job_is_stored_the_answer_says_how_to_go_on(
    site: Site, relay: Relay, api: Client, streams: Streams, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.jobs.actions._ASKED_AGAIN", 0.0)
    relay.lose(1, b"insert\0")
    body = {"destination": "main", "topic": topic, "selection": SELECTION, "rate": JOB_RATE}
    answer = api.post("/v1/resubmissions", json=body)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, False)
    key = answer.headers["Idempotency-Key"]
    assert key in answer.json()["detail"]
    assert api.get(answer.headers["Location"]).json()["id"] == key
    again = api.post("/v1/resubmissions", json=body, headers={"Idempotency-Key": key})
    assert (again.status_code, again.json()["id"]) == (202, key)
    all_sent(site, streams, topic)


def test_who_has_a_key_may_just_ask_again(
    site: Site, relay: Relay, api: Client, streams: Streams, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.jobs.actions._ASKED_AGAIN", 0.0)
    relay.lose(1, b"insert\0")
    body = {"destination": "main", "topic": topic, "selection": SELECTION, "rate": JOB_RATE}
    asked = [api.post("/v1/resubmissions", json=body, headers={"Idempotency-Key": "mine"}) for _ in range(2)]
    assert [answer.status_code for answer in asked] == [503, 202]
    assert asked[0].headers["Retry-After"] == "5"
    assert asked[0].headers["Location"] == asked[1].headers["Location"]
    all_sent(site, streams, topic)


def test_a_change_whose_answer_is_lost_has_happened_and_is_noted_once(
    site: Site, relay: Relay, api: Client, topic: str
) -> None:
    slow = {"messages_per_second": 0.5}
    body = {"destination": "main", "topic": topic, "selection": SELECTION, "rate": slow}
    address = f"/v1/resubmissions/{api.post('/v1/resubmissions', json=body).json()['id']}"
    relay.lose(1, b"noted")
    paused = api.post(f"{address}/pause", json={})
    assert (paused.status_code, paused.json()["state"], relay.lost) == (200, "PAUSED", 1)
    assert api.post(f"{address}/cancel", json={}).ok
    actions = [record["action"] for record in site.index.list_audit(9)]
    assert actions == ["cancel", "pause", "resubmit"]


def test_a_form_that_is_sent_twice_sends_dead_letters_back_once(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    letter = DeadLetter(topic, "write", "permanent", "why", table(row(id=f"{topic}_0_0"), sums=True))
    dead = dead_messages(letter).append_column("checksum", pa.nulls(1, pa.int64()))
    archive(site.lake, site.index, dead, source="dead")
    form = re.search(r"<form[^>]*send-back.*?</form>", api.get("/dead-letters").text, re.DOTALL)
    assert form is not None
    fields = dict(re.findall(r'name="([a-z_]+)" value="([^"]*)"', form.group()))
    given = {name: value.replace("&#34;", '"') for name, value in fields.items()}
    answers = [api.post("/dead-letters/send-back", data=given, allow_redirects=False) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    wait_until(
        lambda: [job["state"] for job in site.index.list_jobs(9)] == ["COMPLETED"], 90, "the job's end"
    )
    assert streams.count(topic) == 1
