"""Jobs that wait for a place: where they stand, and whom they do not keep from theirs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.api._jobs import body, look, post, sending, until
from tests.api.conftest import Client, Site, Streams, order
from tests.servers import wait_until
from tests.servers.nats import Nats

SLOWEST = {"messages_per_second": 10}
PROGRAM = Path(sys.executable).with_name("persistor")


def place(api: Client, job: dict[str, object], number: int) -> dict[str, object]:
    def there() -> dict[str, object] | None:
        found = look(api, job)
        return found if found["place"] == number else None

    return wait_until(there, 60, f"job {job['id']} to have place {number}")


def listed(api: Client, query: str) -> list[str]:
    return [row["id"] for row in api.get(f"/v1/resubmissions?{query}").json()["resubmissions"]]


def test_a_job_is_queued_until_it_has_a_place_and_delays_no_other_destination(
    site: Site, nats: Nats, topic: str, streams: Streams
) -> None:
    site.archive(*(order(n) for n in range(3000)))
    destinations = {"main": nats.url, "other": nats.url}
    with site.serve(destinations, inline_limit=10, jobs_at_once=1) as api:
        first = post(api, "resubmissions", body(topic, rate=SLOWEST), 202)
        sending(api, first)
        second, third = (post(api, "resubmissions", body(topic), 202) for _ in range(2))
        assert [job["state"] for job in (second, third)] == ["QUEUED", "QUEUED"]
        place(api, second, 1)
        waits = place(api, third, 2)
        assert waits["reason"] == "The service has no free place (jobs at a time: 1)."
        assert waits["possible"] == ["pause", "cancel", "rate"]
        assert listed(api, "state=QUEUED") == [third["id"], second["id"]]
        assert listed(api, "state=RUNNING") == [first["id"]]
        for address in ("/jobs", f"/jobs/{third['id']}", "/jobs?state=QUEUED"):
            page = api.get(address).text
            assert "Queued" in page
            assert "lace 2" in page
        words = [PROGRAM, "jobs", "--index", site.index_url]
        shown = subprocess.run([*words, "--state", "QUEUED"], capture_output=True, text=True, check=True)
        lines = [line.split("\t")[:2] for line in shown.stdout.splitlines()]
        assert lines == [[third["id"], "QUEUED (place 2)"], [second["id"], "QUEUED (place 1)"]]
        one = subprocess.run(
            [*words, "--job", third["id"], "--json"], capture_output=True, text=True, check=True
        )
        assert (json.loads(one.stdout)["state"], json.loads(one.stdout)["place"]) == ("QUEUED", 2)
        streams.create(f"{topic}-o")
        urgent = post(api, "resubmissions", {**body(f"{topic}-o"), "destination": "other"}, 202)
        assert until(api, urgent, "COMPLETED")["progress"]["published"] == 3000
        assert look(api, first)["state"] == "RUNNING"
        post(api, f"resubmissions/{third['id']}/cancel")
        until(api, third, "CANCELLED")
        post(api, f"resubmissions/{first['id']}/cancel")
        assert until(api, second, "COMPLETED")["place"] is None


def test_a_job_with_a_rate_limit_holds_no_place(site: Site, nats: Nats, topic: str) -> None:
    site.archive(*(order(n) for n in range(3000)))
    with site.serve({"main": nats.url}, inline_limit=10, jobs_per_destination=1) as api:
        slow = post(api, "resubmissions", body(topic, rate=SLOWEST), 202)
        sending(api, slow)
        assert until(api, post(api, "resubmissions", body(topic), 202), "COMPLETED")
        assert look(api, slow)["state"] == "RUNNING"
        post(api, f"resubmissions/{slow['id']}/cancel")


def test_jobs_are_found_by_person_destination_and_time(site: Site, api: Client, topic: str) -> None:
    site.archive(order(0))
    job = post(api, "resubmissions", body(topic), 202)
    for query in (
        "requested_by=local",
        "destination=main",
        "created_from=-1h",
        "created_from=2020-01-01&created_to=2035-01-01T00:00:00Z",
        "state=COMPLETED&requested_by=local&destination=main&created_from=7d",
    ):
        found = api.get(f"/v1/resubmissions?{query}")
        if "2035" in query:
            assert found.status_code == 422
            continue
        assert listed(api, query) == [job["id"]], query
        assert job["id"] in api.get(f"/jobs?{query}").text
    for query in ("requested_by=ann", "destination=x", "created_to=-1h", "state=FAILED"):
        assert listed(api, query) == [], query
        assert job["id"] not in api.get(f"/jobs?{query}").text
    refused = api.get("/jobs?created_from=yesterday")
    assert (refused.status_code, "created_from" in refused.text) == (200, True)
