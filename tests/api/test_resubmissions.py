"""Planning and sending messages again through the running service."""

from __future__ import annotations

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from resubmit_api.jobs.gauges import watch_jobs
from resubmit_api.metrics import Metrics
from tests._messages import table, with_checksums
from tests.api.conftest import Client, Site, Streams, order, tamper
from tests.servers import wait_until
from tests.servers.nats import Nats

ORDERS = {"sources": ["orders"]}


def body(topic: str, selection: object = ORDERS, **others: object) -> dict[str, Any]:
    return {"destination": "main", "topic": topic, "selection": selection, **others}


def resubmit(api: Client, *args: Any, **kwargs: Any) -> dict[str, Any]:
    response = api.post("/v1/resubmissions", json=body(*args, **kwargs))
    assert response.status_code == 202, response.text
    assert response.headers["Location"] == f"/v1/resubmissions/{response.json()['id']}"
    return response.json()


def counts(job: dict[str, Any]) -> tuple[int, int, int]:
    progress = job["progress"]
    return progress["planned"], progress["published"], progress["failed"]


def row_of(site: Site, job: dict[str, Any]) -> dict[str, Any]:
    return site.index.get_job(job["id"]) or {}


def failures(site: Site) -> list[bytes]:
    """What Prometheus is told of resubmissions that failed."""
    metrics = Metrics()
    watch_jobs(site.index, metrics)
    return [one for one in metrics.text().splitlines() if one.startswith(b"persistor_resubmissions_failed{")]


def ended(api: Client, job: dict[str, Any], seconds: float = 90) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = api.get(f"/v1/resubmissions/{job['id']}").json()
        return found if found["state"] in {"COMPLETED", "FAILED"} else None

    return wait_until(look, seconds, f"job {job['id']} to end")


def test_a_plan_says_what_would_be_sent_and_sends_nothing(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(30)), rows_per_file=10)
    response = api.post("/v1/plans", json=body(topic, {"ids": ["orders_0_4", "orders_0_25"]}))
    assert response.status_code == 200
    made = response.json()
    assert (made["state"], made["possible"]) == ("PLANNED", ["run", "cancel"])
    assert response.headers["Location"] == f"/v1/plans/{made['id']}"
    plan = made["plan"]
    assert (plan["destination"], plan["topic"]) == ("main", topic)
    assert (plan["messages"], plan["bytes"], plan["files"], plan["problems"]) == (2, 7 + 8, 2, [])
    assert (plan["oldest"], plan["newest"]) == ("2023-11-14T22:13:24.000000Z", "2023-11-14T22:13:45.000000Z")
    assert [source["source"] for source in plan["sources"]] == ["orders"]
    assert streams.count(topic) == 0
    assert api.get("/v1/resubmissions").json() == {"resubmissions": [], "next": None}
    assert api.get(f"/v1/plans/{made['id']}").json() == made


def test_a_plan_shows_what_the_destination_cannot_carry_in_the_words_of_a_request(
    site: Site, api: Client, topic: str
) -> None:
    site.archive(order(0, key=b"k"))
    made = api.post("/v1/plans", json=body(topic)).json()
    [problem] = made["plan"]["problems"]
    assert made["possible"] == ["cancel"]
    assert "cannot carry 1 keys" in problem
    assert '"lossy": true' in problem
    assert "--" not in problem


def test_a_small_selection_has_ended_when_the_answer_comes(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(5)))
    job = resubmit(api, topic)
    assert (job["state"], job["mode"], job["reason"]) == ("COMPLETED", "inline", None)
    counts = {"planned": 5, "published": 5, "failed": 0}
    assert job["progress"] == {
        **counts,
        "rate": None,
        "seconds_left": None,
        "last_publish_time": "2023-11-14T22:13:24.000000Z",
        "sources": {"orders": counts},
    }
    assert (job["report"]["verified_by_checksum"], job["requested_by"]) == (5, "local")
    assert streams.payloads(topic) == [b"order %d" % n for n in range(5)]
    assert api.get(f"/v1/resubmissions/{job['id']}").json() == job


def test_speed_and_slice_are_checked_and_a_speed_is_kept_by_a_job(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(3)))
    for wrong in ({"speed": "fast"}, {"speed": "0x"}, {"slice": "soon"}, {"slice": "0m"}):
        assert api.post("/v1/resubmissions", json={**body(topic), "options": wrong}).status_code == 422, wrong
    asked = {**body(topic), "options": {"speed": "10x", "slice": "5m"}}
    job = api.post("/v1/resubmissions", json=asked).json()
    assert (job["mode"], job["options"]["speed"], job["options"]["slice"]) == ("job", "10x", "5m")
    assert (ended(api, job)["state"], streams.count(topic)) == ("COMPLETED", 3)


def test_the_same_message_is_sent_as_often_as_it_is_asked_for(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    site.archive(order(0))
    for _ in range(3):
        assert resubmit(api, topic, {"ids": ["orders_0_0"]})["state"] == "COMPLETED"
    assert streams.payloads(topic) == [b"order 0"] * 3


def test_limit_and_sample_choose_among_the_selected(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(100)))
    assert resubmit(api, topic, {**ORDERS, "limit": 3})["progress"]["published"] == 3
    sampled = resubmit(api, topic, {**ORDERS, "sample": 0.5})["progress"]["published"]
    assert 25 < sampled < 75
    assert streams.count(topic) == 3 + sampled


def test_what_is_damaged_is_reported_and_the_rest_is_sent(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    first, second = site.archive(*(order(n) for n in range(4)), rows_per_file=2)
    wrong = [order(0, id="orders_0_0"), order(1, id="orders_0_1", data=b"forged")]
    tamper(Path(first.removeprefix("file://")), with_checksums(table(*wrong)))
    job = resubmit(api, topic)
    assert (job["state"], job["reason"]) == ("FAILED", "1 of 4 messages were not published.")
    assert [(e["id"], e["category"], e["location"]) for e in job["errors"]] == [
        ("orders_0_1", "mismatch", first)
    ]
    assert streams.payloads(topic) == [b"order 0", b"order 2", b"order 3"]
    assert second


def test_a_missing_topic_is_refused_and_not_created(
    site: Site, api: Client, streams: Streams, nats: Nats
) -> None:
    site.archive(order(0))
    for address in ("/v1/plans", "/v1/resubmissions"):
        response = api.post(address, json=body("nowhere"))
        assert response.status_code == 422
        assert "No JetStream stream takes the subject 'nowhere'" in response.json()["detail"]
        assert str(nats.port) not in response.text
    assert api.get("/v1/resubmissions").json()["resubmissions"] == []
    created = streams.create("nowhere")
    assert resubmit(api, created)["state"] == "COMPLETED"


def test_a_topic_that_a_pattern_gives_and_that_is_missing_is_refused_and_raises_no_alert(
    site: Site, api: Client
) -> None:
    site.archive(order(0))
    planned = api.post("/v1/plans", json=body("nowhere-{topic}"))
    assert planned.status_code == 422
    job = ended(api, resubmit(api, "nowhere-{topic}"))
    missing = "No JetStream stream takes the subject 'nowhere-orders'"
    for told in (planned.json()["detail"], planned.json()["errors"][0]["detail"], job["reason"]):
        assert missing in told
    kept = api.get("/v1/resubmissions").json()["resubmissions"]
    assert [(row["state"], row["plan"]) for row in kept] == [("FAILED", None)] * 2
    assert not failures(site)


def test_an_unknown_destination_names_the_known_ones(api: Client) -> None:
    response = api.post("/v1/resubmissions", json={**body("t"), "destination": "nats://evil:4222"})
    assert response.status_code == 422
    assert response.json()["detail"] == "No destination has this name; configured are main."


def test_what_cannot_be_carried_is_refused_unless_lossy(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    site.archive(order(0, key=b"k"))
    response = api.post("/v1/resubmissions", json=body(topic))
    assert response.status_code == 422
    assert "cannot carry 1 keys" in response.json()["detail"]
    assert streams.count(topic) == 0
    [row] = api.get("/v1/resubmissions").json()["resubmissions"]
    assert row["state"] == "FAILED"
    assert not failures(site)
    lossy = resubmit(api, topic, options={"lossy": True})
    assert (lossy["state"], lossy["report"]["reduced"]) == ("COMPLETED", 1)


def test_a_destination_that_is_away_is_503_and_works_again_when_it_is_back(
    site: Site, tmp_path: Path
) -> None:
    site.archive(order(0))
    with Nats(tmp_path / "nats") as server, site.serve({"main": server.url}) as api:
        topic = Streams(server.url).create("again")
        assert resubmit(api, topic)["state"] == "COMPLETED"
        server.stop()
        away = api.post("/v1/resubmissions", json=body(topic))
        assert (away.status_code, away.headers["Retry-After"]) == (503, "5")
        assert api.get("/readyz").status_code == 200
        server.start()
        wait_until(
            lambda: api.post("/v1/resubmissions", json=body(topic)).status_code == 202, 30, "NATS to be used"
        )


def test_resubmissions_at_the_same_time_keep_their_own_figures(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(20)))
    selections = [{"ids": [f"orders_0_{n}" for n in range(count)]} for count in range(1, 21)]
    with ThreadPoolExecutor(20) as threads:
        jobs = list(threads.map(lambda selection: ended(api, resubmit(api, topic, selection)), selections))
    assert [job["progress"]["published"] for job in jobs] == list(range(1, 21))
    assert streams.count(topic) == sum(range(1, 21))


def test_the_list_pages_from_the_latest_on(site: Site, api: Client, topic: str) -> None:
    site.archive(order(0))
    made = [resubmit(api, topic)["id"] for _ in range(5)]
    first = api.get("/v1/resubmissions?limit=3").json()
    rest = api.get("/v1/resubmissions", params={"limit": 3, "cursor": first["next"]}).json()
    assert [job["id"] for job in first["resubmissions"] + rest["resubmissions"]] == sorted(made, reverse=True)
    assert rest["next"] is None
    for cursor in ("garbage", "W10"):
        assert api.get(f"/v1/resubmissions?cursor={cursor}").status_code == 400


def test_an_unknown_resubmission_is_not_found(api: Client) -> None:
    response = api.get("/v1/resubmissions/none")
    assert (response.status_code, response.json()["title"]) == (404, "No such resubmission")


def test_a_large_selection_is_a_job_in_a_process_of_its_own(
    site: Site, nats: Nats, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(300)))
    with site.serve({"main": nats.url}, inline_limit=100) as api:
        job = resubmit(api, topic)
        assert (job["state"], job["mode"], job["plan"]) == ("QUEUED", "job", None)
        done = ended(api, job)
        wait_until(lambda: not list((site.directory / "jobs").iterdir()), 60, "the process to be gone")
    assert (done["state"], done["reason"]) == ("COMPLETED", None)
    assert done["plan"]["messages"] == 300
    assert counts(done) == (300, 300, 0)
    assert streams.payloads(topic) == [b"order %d" % n for n in range(300)]


def test_a_job_whose_process_was_killed_is_taken_up_at_once(
    site: Site, nats: Nats, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(300)))
    with site.serve({"main": nats.url}, inline_limit=100) as api:
        job = resubmit(api, topic)
        run = wait_until(lambda: row_of(site, job)["run"], 60, "the job's process")
        os.killpg(run["pid"], signal.SIGKILL)
        done = ended(api, job)
    assert counts(done) == (300, 300, 0)
    assert row_of(site, job)["run"]["pid"] != run["pid"]
    assert streams.payloads(topic) == [b"order %d" % n for n in range(300)]


def test_a_job_that_cannot_be_done_as_asked_says_why(
    site: Site, nats: Nats, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n, key=b"k") for n in range(300)))
    with site.serve({"main": nats.url}, inline_limit=100) as api:
        failed = ended(api, resubmit(api, topic))
    assert failed["state"] == "FAILED"
    assert '300 keys (dropped if lossy): choose another or allow it with "lossy": true' in failed["reason"]
    assert streams.count(topic) == 0


def test_what_a_service_was_sending_when_it_died_is_reported_as_unfinished(
    site: Site, nats: Nats, topic: str
) -> None:
    site.archive(order(0))
    with site.serve({"main": nats.url}) as api:
        job = resubmit(api, topic)
        row = row_of(site, job)
        dead = {"owner": f"{socket.gethostname()}:1:x", "until": "2026-01-01T00:00:00.000000Z"}
        left = {**row, "state": "RUNNING", "finished": None, "report": None, "plan": None, "lease": dead}
        assert site.index.replace_job(left, row["version"])
        told = ended(api, job)
        assert failures(site) == [b'persistor_resubmissions_failed{destination="main"} 1.0']
    assert (told["state"], told["reason"]) == (
        "FAILED",
        "The service stopped while sending; some messages may have been sent.",
    )


def test_metrics_count_requests_by_route_and_messages_by_destination(
    site: Site, api: Client, topic: str
) -> None:
    site.archive(*(order(n) for n in range(4)))
    resubmit(api, topic)
    api.get("/v1/messages/orders_0_1")
    api.request("BREW", "/healthz")
    text = api.get("/metrics").text
    assert 'persistor_api_requests_total{method="POST",route="/v1/resubmissions",status="202"} 1.0' in text
    assert 'route="/v1/messages/<id:id>",status="200"' in text
    assert 'persistor_api_resubmitted_messages_total{destination="main",outcome="published"} 4.0' in text
    assert "BREW" not in text


def test_a_destination_that_stops_answering_leaves_a_resubmission_that_says_so(
    site: Site, tmp_path: Path
) -> None:
    site.archive(order(0))
    with Nats(tmp_path / "nats") as server, site.serve({"main": server.url}, answer_within=3) as api:
        topic = Streams(server.url).create("frozen")
        assert resubmit(api, topic)["state"] == "COMPLETED"
        server.pause()
        job = resubmit(api, topic)
        assert job["state"] == "RUNNING"
        assert api.get(f"/v1/resubmissions/{job['id']}").json()["state"] == "RUNNING"
        server.kill()
        failed = ended(api, job)
    assert failed["state"] == "FAILED"
    assert failed["reason"].startswith("A server did not answer; some messages may have been sent")
