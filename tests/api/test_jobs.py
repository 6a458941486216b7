"""Jobs under control: plans that are run, pause, resume, cancel, rates, keys and lost processes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from resubmit_api.backends import Backends
from resubmit_api.jobs.housekeeping import Housekeeping
from tests._processes import spawned
from tests.api._jobs import ORDERS, SLOW, body, counts, left, look, payloads, post, sending, until
from tests.api.conftest import Client, Site, Streams, order
from tests.servers import wait_until
from tests.servers.nats import Nats
from transforms.jobs.actions import create
from transforms.jobs.rows import at, new_row
from transforms.replay.options import Options
from transforms.replay.plans import folder, new_job_id
from transforms.selection import Selection


@pytest.fixture
def api(site: Site, nats: Nats) -> Iterator[Client]:
    """A service to which more than ten messages are a large selection."""
    with site.serve({"main": nats.url}, inline_limit=10) as client:
        yield client


def test_a_plan_sends_what_it_showed_also_when_more_matches_later(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(30)))
    plan = post(api, "plans", body(topic))
    assert (plan["plan"]["messages"], sum(plan["plan"]["histogram"]["messages"])) == (30, 30)
    assert len(plan["plan"]["samples"]) == 10
    site.archive(*(order(n, partition=1) for n in range(30, 40)))
    job = post(api, "resubmissions", {"plan": plan["id"]}, 202)
    assert (job["id"], job["state"]) == (plan["id"], "QUEUED")
    done = until(api, job, "COMPLETED")
    assert counts(done) == (30, 30, 0)
    assert streams.payloads(topic) == payloads(0, 30)
    again = post(api, "resubmissions", {"plan": plan["id"]}, 409)
    assert again["detail"] == "It was sent already (COMPLETED); make a new plan to send it again."


def test_a_plan_with_problems_is_shown_and_does_not_run(site: Site, api: Client, topic: str) -> None:
    site.archive(order(0, key=b"k"))
    plan = post(api, "plans", body(topic))
    assert len(plan["plan"]["problems"]) == 1
    refused = post(api, "resubmissions", {"plan": plan["id"]}, 409)
    assert refused["errors"] == [{"possible": "cancel"}]
    assert post(api, f"resubmissions/{plan['id']}/cancel")["state"] == "CANCELLED"


def test_a_plan_that_could_not_be_made_is_never_sent(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n, topic=topic) for n in range(30)))
    post(api, "plans", body("{topic}-copy"), 422)
    [plan] = api.get("/v1/resubmissions?state=FAILED").json()["resubmissions"]
    assert (plan["plan"], plan["possible"]) == (None, [])
    streams.create(f"{topic}-copy")
    refused = post(api, f"resubmissions/{plan['id']}/resume", status=409)
    assert "no action is possible" in refused["detail"]
    assert streams.count(f"{topic}-copy") == 0


def test_a_job_pauses_resumes_and_takes_a_new_rate(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(2000)))
    job = post(api, "resubmissions", body(topic, rate=SLOW), 202)
    running = sending(api, job)
    assert running["possible"] == ["pause", "cancel", "rate"]
    assert post(api, f"resubmissions/{job['id']}/pause")["state"] == "PAUSED"
    left(site, job)
    paused = look(api, job)
    assert (paused["state"], paused["possible"]) == ("PAUSED", ["resume", "cancel", "rate"])
    assert paused["progress"]["published"] == streams.count(topic) < 2000
    rated = api.patch(
        f"/v1/resubmissions/{job['id']}", json={"rate": {"messages_per_second": 200, "bytes_per_second": 1e6}}
    )
    assert rated.json()["rate"] == {"messages_per_second": 200.0, "bytes_per_second": 1e6}
    assert post(api, f"resubmissions/{job['id']}/resume")["state"] in {"QUEUED", "RUNNING"}
    going = sending(api, job, paused["progress"]["published"])
    assert going["state"] == "RUNNING"
    api.patch(f"/v1/resubmissions/{job['id']}", json={"rate": {}})
    done = until(api, job, "COMPLETED")
    assert counts(done) == (2000, 2000, 0)
    assert done["progress"]["sources"] == {"orders": {"planned": 2000, "published": 2000, "failed": 0}}
    assert streams.payloads(topic) == payloads(0, 2000)
    actions = [record["action"] for record in site.index.list_audit(10)]
    assert actions == ["rate", "resume", "rate", "pause", "resubmit"]


def test_a_cancelled_job_says_what_it_has_sent(site: Site, api: Client, streams: Streams, topic: str) -> None:
    site.archive(*(order(n) for n in range(2000)))
    job = post(api, "resubmissions", body(topic, rate=SLOW), 202)
    sending(api, job)
    assert post(api, f"resubmissions/{job['id']}/cancel")["state"] == "CANCELLING"
    done = until(api, job, "CANCELLED")
    sent = streams.count(topic)
    assert 0 < sent < 2000
    assert counts(done) == (2000, sent, 0)
    assert done["reason"] == f"It was cancelled; {2000 - sent:,} of 2,000 messages were not sent."
    refused = post(api, f"resubmissions/{job['id']}/resume", status=409)
    assert "no action is possible" in refused["detail"]


def test_a_key_makes_one_resubmission_also_at_two_replicas_at_once(
    site: Site, nats: Nats, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(30)))
    small, large = body(topic, {"ids": ["orders_0_1"]}), body(topic)
    with (
        site.serve({"main": nats.url}, inline_limit=10) as one,
        site.serve({"main": nats.url}, inline_limit=10) as two,
        ThreadPoolExecutor(8) as pool,
    ):
        for key, content in (("small", small), ("large", large)):
            made = list(
                pool.map(
                    lambda n: post(
                        (one, two)[n % 2],
                        "resubmissions",
                        content,  # noqa: B023 - used within the round
                        202,
                        **{"Idempotency-Key": key},  # noqa: B023
                    )["id"],
                    range(8),
                )
            )
            assert len(set(made)) == 1
            until(two, {"id": made[0]}, "COMPLETED")
        refused = post(two, "resubmissions", small, 422, **{"Idempotency-Key": "large"})
        assert refused["type"] == "urn:persistor:problem:key"
        plan = post(one, "plans", small)
        for api in (one, two):
            key = {"Idempotency-Key": "plan"}
            assert post(api, "resubmissions", {"plan": plan["id"]}, 202, **key)["id"] == plan["id"]
        until(one, plan, "COMPLETED")
        assert len(one.get("/v1/resubmissions").json()["resubmissions"]) == 3
    assert streams.count(topic) == 1 + 30 + 1


def test_relative_times_are_frozen_when_it_is_asked_for(site: Site, api: Client, topic: str) -> None:
    now = datetime.now(timezone.utc)
    ages = [timedelta(minutes=90), timedelta(minutes=30), timedelta(minutes=10)]
    times = [int((now - age).timestamp() * 1_000_000) for age in ages]
    site.archive(*(order(n, publish_time=time) for n, time in enumerate(times)))
    made = post(api, "plans", body(topic, {"published_from": "-1h", "published_to": "-15m"}))
    assert made["plan"]["messages"] == 1
    first, end = (datetime.fromisoformat(made["selection"][f"published_{b}"]) for b in ("from", "to"))
    assert end - first == timedelta(minutes=45)
    assert abs(first - (now - timedelta(hours=1))) < timedelta(seconds=30)
    refused = post(api, "plans", body(topic, {"published_from": "yesterday"}), 422)
    assert "published_from" in refused["detail"]


def test_each_message_goes_to_the_topic_that_a_pattern_gives(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    for name in ("a", "b"):
        streams.create(f"{topic}-{name}")
        site.archive(*(order(n, topic=name, id=f"{name}_0_{n}") for n in range(5)), source=name)
    job = post(api, "resubmissions", body(f"{topic}-{{topic}}", {"all": True}), 202)
    done = until(api, job, "COMPLETED")
    assert (counts(done), done["plan"]["topics"]) == ((10, 10, 0), [f"{topic}-a", f"{topic}-b"])
    assert [streams.count(f"{topic}-{name}") for name in ("a", "b")] == [5, 5]


def test_a_job_whose_process_is_stopped_is_taken_up_again_and_nobody_has_paused_it(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(2000)))
    job = post(api, "resubmissions", body(topic, rate=SLOW), 202)
    sending(api, job)
    os.kill((site.index.get_job(job["id"]) or {})["run"]["pid"], signal.SIGTERM)
    api.patch(f"/v1/resubmissions/{job['id']}", json={"rate": {}})
    assert counts(until(api, job, "COMPLETED")) == (2000, 2000, 0)
    assert streams.payloads(topic) == payloads(0, 2000)
    assert [record["action"] for record in site.index.list_audit(9)] == ["rate", "resubmit"]


def test_the_command_goes_on_with_a_job_and_its_own_are_seen_and_cancelled(
    site: Site, nats: Nats, api: Client, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(2000)))
    job = post(api, "resubmissions", body(topic, rate={"messages_per_second": 20}), 202)
    post(api, f"resubmissions/{job['id']}/pause")
    left(site, job)
    words = ["--index", site.index_url, "--lake", site.lake.url, "--destination", f"{nats.url}/{topic}"]
    resume = [*words, "--resume", job["id"]]
    with command(*resume) as process:
        sending(api, job)
        with command(*resume) as other:
            assert b"is working on job" in other.communicate(timeout=60)[1]
            assert other.returncode == 2
        post(api, f"resubmissions/{job['id']}/cancel")
        assert (process.wait(30), until(api, job, "CANCELLED")["attempts"]) == (1, 0)
    with command(*words, "--selection", '{"ids": ["orders_0_7"]}') as process:
        assert process.wait(60) == 0
    latest = api.get("/v1/resubmissions").json()["resubmissions"][0]
    assert (latest["state"], latest["mode"], counts(latest)) == ("COMPLETED", "job", (1, 1, 0))
    assert (latest["destination"], latest["topic"]) == (f"nats://127.0.0.1:{nats.port}", topic)


def command(*words: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return spawned([sys.executable, "-m", "pipelines", "resubmit", *words], stderr=subprocess.PIPE)


def test_fifty_resubmissions_at_the_same_time_keep_their_own_figures(
    site: Site, nats: Nats, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(60)))
    selections = [{"ids": [f"orders_0_{n}" for n in range(count)]} for count in range(1, 51)]
    with site.serve({"main": nats.url}, inline_limit=48) as api, ThreadPoolExecutor(50) as threads:
        jobs = list(threads.map(lambda s: post(api, "resubmissions", body(topic, s), 202), selections))
        done = [until(api, job, "COMPLETED", seconds=120) for job in jobs]
    assert [counts(job) for job in done] == [(count, count, 0) for count in range(1, 51)]
    assert [job["mode"] for job in done] == ["inline"] * 48 + ["job"] * 2
    assert streams.count(topic) == sum(range(1, 51))


def test_a_plan_that_is_cancelled_while_it_is_made_leaves_nothing(site: Site, tmp_path: Path) -> None:
    site.archive(*(order(n) for n in range(30)))
    with (
        Nats(tmp_path / "nats") as server,
        site.serve({"main": server.url}) as api,
        ThreadPoolExecutor(1) as pool,
    ):
        Streams(server.url).create("orders-copy")
        server.pause()
        answer = pool.submit(post, api, "plans", body("{topic}-copy"))
        plan = wait_until(lambda: site.index.list_jobs(1, states=["PLANNED"]), 30, "the plan's row")[0]
        wait_until(lambda: (site.index.get_job(plan["id"]) or {})["lease"], 30, "somebody to make it")
        assert post(api, f"resubmissions/{plan['id']}/cancel")["state"] == "CANCELLING"
        server.resume()
        answer.result()
        until(api, plan, "CANCELLED")
        wait_until(lambda: not list(site.lake.list("_persistor/plans")), 10, "it to be removed")


def test_an_index_that_is_damaged_is_reported_at_once_by_every_answer(
    site: Site, nats: Nats, topic: str
) -> None:
    site.archive(*(order(n) for n in range(30)))
    _damage_entries(site.directory / "index.db")
    with site.serve({"main": nats.url}) as api:
        started = time.monotonic()
        for path, content in (("plans", body(topic)), ("messages/search", {"selection": ORDERS})):
            told = post(api, path, content, 502)
            assert told["detail"].startswith("The index, a lake or the destination failed or refused")
            assert "index.db" not in str(told)
        assert time.monotonic() - started < 4, "the plan was waited for, though it had failed"
        [row] = site.index.list_jobs(1)
    assert (row["state"], row["progress"]["published"]) == ("FAILED", 0)
    assert "malformed" in row["reason"]


def _damage_entries(file: Path) -> None:
    """Overwrite the first page of the entries and of each of their indexes; the jobs' own stay whole."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        roots = connection.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'entries'").fetchall()
        [(size,)] = connection.execute("PRAGMA page_size")
    with file.open("r+b") as opened:
        for (page,) in roots:
            opened.seek((page - 1) * size)
            opened.write(b"\xff" * size)


def test_a_plan_that_the_lake_has_lost_sends_nothing_and_disturbs_no_other_job(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(30)))
    damaged, lost = (post(api, "plans", body(topic)) for _ in range(2))
    for plan, content in ((damaged, b"{"), (lost, None)):
        file = site.directory / "lake" / folder(plan["id"]) / "plan.json"
        file.write_bytes(content) if content else file.unlink()
    site.archive(order(0, partition=1))
    row = site.index.get_job(damaged["id"]) or {}
    assert site.index.replace_job({**row, "state": "CANCELLING"}, row["version"])
    assert "is damaged: put back a whole copy of it" in until(api, damaged, "FAILED")["reason"]
    answer = post(api, "resubmissions", {"plan": lost["id"]}, 422)
    assert answer["detail"] == "The plan is missing from the lake: make a new plan."
    assert streams.count(topic) == 0


def test_what_nobody_needs_any_more_is_removed(site: Site, nats: Nats, api: Client, topic: str) -> None:
    site.archive(*(order(n) for n in range(30)))
    fresh, stale = (post(api, "plans", body(topic)) for _ in range(2))
    done = until(api, post(api, "resubmissions", body(topic), 202), "COMPLETED")
    row = site.index.get_job(stale["id"]) or {}
    assert site.index.replace_job({**row, "created": at(-86_500)}, row["version"])
    old = new_row(
        id=new_job_id(32 * 86_400),
        destination="main",
        topic=topic,
        selection=Selection(all=True),
        options=Options(),
        requested_by=None,
        state="FAILED",
    )
    ended = at(-31 * 86_400)
    unmade = {**old, "id": new_job_id(32 * 86_400), "cleared": ended}
    for row in (old, unmade):
        create(site.index, {**row, "finished": ended}, "resubmit")
        site.lake.put_new(f"{folder(row['id'])}/plan.json", b"{}")
    Housekeeping(Backends(site.settings({}))).run()
    told = look(api, stale)
    assert (told["state"], told["reason"]) == ("CANCELLED", "The plan was not run within a day.")
    kept = {path.split("/")[2] for path, _ in site.lake.list("_persistor/plans")}
    assert kept == {fresh["id"], done["id"]}
    assert look(api, old)["possible"] == []
