"""The service's jobs controlled on the command line: the service notices, and goes on with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import plan
from pipelines.cli import main
from pipelines.settings.replay import PlanSettings
from tests.api.conftest import Client, Site, Streams, order
from tests.servers import wait_until
from tests.servers.nats import Nats
from transforms.job_row import Row

ORDERS = {"sources": ["orders"]}


@pytest.fixture
def api(site: Site, nats: Nats) -> Iterator[Client]:
    with site.serve({"main": nats.url}, inline_limit=10) as client:
        yield client


@pytest.fixture
def jobs(site: Site, capsys: pytest.CaptureFixture[str]) -> Any:
    """``persistor jobs`` on a job: its row as it is told."""

    def run(id: str, *words: str, code: int = 0) -> Row:
        capsys.readouterr()
        assert main(["jobs", "--index", site.index_url, "--json", "--job", id, *words]) == code
        shown = capsys.readouterr()
        return dict(json.loads(shown.out)) if shown.out else {"said": shown.err}

    return run


def post(api: Client, path: str, content: object) -> dict[str, Any]:
    response = api.post(f"/v1/{path}", json=content)
    assert response.ok, response.text
    return dict(response.json())


def body(topic: str, **others: object) -> dict[str, Any]:
    return {"destination": "main", "topic": topic, "selection": ORDERS, **others}


def test_a_job_of_the_service_is_paused_resumed_and_followed(
    site: Site, api: Client, streams: Streams, topic: str, jobs: Any
) -> None:
    site.archive(*(order(n) for n in range(600)))
    id = post(api, "resubmissions", body(topic, rate={"messages_per_second": 20}))["id"]
    wait_until(lambda: jobs(id)["progress"]["published"], 60, "the job to send")
    assert jobs(id, "--action", "pause")["state"] == "PAUSED"
    wait_until(lambda: (site.index.get_job(id) or {})["lease"] is None, 60, "the lease to be free")
    assert jobs(id)["possible"] == ["resume", "cancel", "rate"]
    assert jobs(id, "--action", "rate")["rate"] == {"messages_per_second": None, "bytes_per_second": None}
    done = jobs(id, "--action", "resume", "--follow")
    assert (done["state"], done["progress"]["published"]) == ("COMPLETED", 600)
    assert streams.payloads(topic) == [b"order %d" % n for n in range(600)]
    assert "no action is possible" in jobs(id, "--action", "pause", code=2)["said"]
    trail = [record["action"] for record in reversed(site.index.list_audit(9))]
    assert trail == ["resubmit", "pause", "rate", "resume"]


def test_what_the_service_sent_at_once_is_tried_again_by_a_job(
    site: Site, api: Client, streams: Streams, topic: str, jobs: Any
) -> None:
    _, second = site.archive(*(order(n) for n in range(4)), rows_per_file=2)
    hidden = Path(second.removeprefix("file://"))
    hidden.rename(hidden.with_suffix(".hidden"))
    job = post(api, "resubmissions", body(topic))
    assert (job["state"], job["mode"], job["progress"]["failed"]) == ("FAILED", "inline", 2)
    hidden.with_suffix(".hidden").rename(hidden)
    done = jobs(job["id"], "--action", "retry", "--follow")
    assert (done["state"], done["retry_of"], done["progress"]["published"]) == ("COMPLETED", job["id"], 2)
    assert streams.payloads(topic) == [b"order %d" % n for n in range(4)]


def test_a_plan_of_the_command_is_seen_by_the_service_which_says_who_runs_it(
    site: Site, api: Client, nats: Nats, topic: str
) -> None:
    site.archive(*(order(n) for n in range(3)))
    made = plan.run(
        PlanSettings(
            destination=f"{nats.url}/{topic}",
            lakes=(site.lake.url,),
            index=site.index_url,
            selection=json.dumps(ORDERS),
        )
    )
    seen = api.get(f"/v1/plans/{made.job}").json()
    assert (seen["plan"]["messages"], seen["possible"]) == (3, ["cancel"])
    refused = api.post("/v1/resubmissions", json={"plan": made.job})
    assert refused.status_code == 409
    assert f"persistor resubmit --plan {made.job} does that" in refused.json()["detail"]
