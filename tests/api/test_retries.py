"""What a job could not publish is tried again: just that, once, and by nobody twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.api._jobs import body, counts, look, payloads, post, until
from tests.api.conftest import Client, Site, Streams, order
from tests.servers import wait_until
from tests.servers.nats import Nats
from transforms.jobs.actions import create, retry_of
from transforms.jobs.leases import change, held_by


@pytest.fixture
def api(site: Site, nats: Nats) -> Iterator[Client]:
    """A service to which more than ten messages are a large selection."""
    with site.serve({"main": nats.url}, inline_limit=10) as client:
        yield client


def test_retry_sends_just_what_failed(site: Site, api: Client, streams: Streams, topic: str) -> None:
    first, second, _ = site.archive(*(order(n) for n in range(60)), rows_per_file=20)
    hidden = Path(second.removeprefix("file://"))
    hidden.rename(hidden.with_suffix(".hidden"))
    job = until(api, post(api, "resubmissions", body(topic), 202), "FAILED")
    assert (counts(job), job["possible"]) == ((60, 40, 20), ["retry"])
    alert = 'persistor_resubmissions_failed{destination="main"} 1.0'
    wait_until(lambda: alert in api.get("/metrics").text, 30, "the failure to be told")
    hidden.with_suffix(".hidden").rename(hidden)
    again = post(api, f"resubmissions/{job['id']}/retry", status=202)
    assert again["retry_of"] == job["id"]
    done = until(api, again, "COMPLETED")
    assert counts(done) == (20, 20, 0)
    assert streams.payloads(topic) == payloads(0, 20) + payloads(40, 60) + payloads(20, 40)
    assert look(api, job)["retried_by"] == again["id"]
    wait_until(lambda: alert not in api.get("/metrics").text, 30, "the failure to be told no more")
    post(api, f"resubmissions/{job['id']}/retry", status=409)
    assert first


def test_a_retry_that_is_cancelled_before_it_sends_can_be_asked_for_again(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    _, second, _ = site.archive(*(order(n) for n in range(60)), rows_per_file=20)
    hidden = Path(second.removeprefix("file://"))
    hidden.rename(hidden.with_suffix(".hidden"))
    job = until(api, post(api, "resubmissions", body(topic), 202), "FAILED")
    hidden.with_suffix(".hidden").rename(hidden)
    held = held_by(retry_of(site.index, job["id"], None), "elsewhere:1:x")
    first = create(site.index, held, "retry")
    assert post(api, f"resubmissions/{first['id']}/cancel")["state"] == "CANCELLING"
    change(site.index, first["id"], lambda row: {**row, "lease": None})
    until(api, first, "CANCELLED")
    wait_until(lambda: look(api, job)["possible"] == ["retry"], 30, "it to be tried again")
    again = until(api, post(api, f"resubmissions/{job['id']}/retry", status=202), "COMPLETED")
    assert (again["retry_of"], look(api, job)["retried_by"]) == (job["id"], again["id"])
    assert streams.count(topic) == 60


def test_retry_is_refused_while_the_destination_would_refuse_it(
    site: Site, api: Client, nats: Nats, streams: Streams, topic: str
) -> None:
    _, second, _ = site.archive(*(order(n) for n in range(60)), rows_per_file=20)
    hidden = Path(second.removeprefix("file://"))
    hidden.rename(hidden.with_suffix(".hidden"))
    job = until(api, post(api, "resubmissions", body(topic), 202), "FAILED")
    streams.delete(topic)
    with site.serve({"main": nats.url}) as other:  # which did not see the stream a moment ago
        refused = post(other, f"resubmissions/{job['id']}/retry", status=422)
    assert refused["type"] == "urn:persistor:problem:refused"
    assert topic in refused["detail"]
    told = look(api, job)
    assert (told["retried_by"], told["possible"]) == (None, ["retry"])


def test_retry_of_a_small_one_sends_what_failed(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    _, second = site.archive(*(order(n) for n in range(4)), rows_per_file=2)
    hidden = Path(second.removeprefix("file://"))
    hidden.rename(hidden.with_suffix(".hidden"))
    job = post(api, "resubmissions", body(topic), 202)
    assert (job["state"], counts(job), job["possible"]) == ("FAILED", (4, 2, 2), ["retry"])
    hidden.with_suffix(".hidden").rename(hidden)
    again = post(api, f"resubmissions/{job['id']}/retry", status=202)
    assert (again["state"], counts(again)) == ("COMPLETED", (2, 2, 0))
    assert streams.payloads(topic) == payloads(0, 4)


def test_retry_of_a_small_one_that_meets_a_dead_destination_can_be_asked_for_again(
    site: Site, tmp_path: Path
) -> None:
    _, second = site.archive(*(order(n) for n in range(4)), rows_per_file=2)
    hidden = Path(second.removeprefix("file://"))
    hidden.rename(hidden.with_suffix(".hidden"))
    with Nats(tmp_path / "nats") as server, site.serve({"main": server.url}, answer_within=3) as api:
        streams = Streams(server.url)
        job = post(api, "resubmissions", body(streams.create("dying")), 202)
        hidden.with_suffix(".hidden").rename(hidden)
        server.pause()
        first = post(api, f"resubmissions/{job['id']}/retry", status=202)
        assert (first["state"], look(api, job)["possible"]) == ("RUNNING", [])
        server.kill()
        assert "some messages may have been sent" in until(api, first, "FAILED")["reason"]
        wait_until(lambda: look(api, job)["possible"] == ["retry"], 30, "it to be tried again")
        server.start()
        again = post(api, f"resubmissions/{job['id']}/retry", status=202)
        assert counts(until(api, again, "COMPLETED")) == (2, 2, 0)
        assert streams.payloads("dying") == payloads(0, 4)


def test_retry_that_is_asked_for_at_two_replicas_at_once_sends_once(
    site: Site, nats: Nats, streams: Streams, topic: str
) -> None:
    [file] = site.archive(*(order(n) for n in range(3)))
    hidden = Path(file.removeprefix("file://"))
    hidden.rename(hidden.with_suffix(".hidden"))
    with (
        site.serve({"main": nats.url}) as one,
        site.serve({"main": nats.url}) as two,
        ThreadPoolExecutor(4) as pool,
    ):
        job = post(one, "resubmissions", body(topic), 202)
        assert counts(job) == (3, 0, 3)
        hidden.with_suffix(".hidden").rename(hidden)
        path = f"/v1/resubmissions/{job['id']}/retry"
        answers = list(pool.map(lambda api: api.post(path, json={}), (one, two, one, two)))
        assert {answer.status_code for answer in answers} <= {202, 409}
        [again] = {answer.json()["id"] for answer in answers if answer.status_code == 202}
        until(two, {"id": again}, "COMPLETED")
    assert streams.payloads(topic) == payloads(0, 3)
