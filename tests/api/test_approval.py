"""Plans that a second person has to approve before they are run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resubmit_api.app import create_app
from resubmit_api.auth.tokens import digest_of
from tests.api.conftest import Client, Site, Streams, order
from tests.servers import wait_until
from tests.servers.nats import Nats
from transforms.errors import ConfigurationError

PROGRAM = Path(sys.executable).with_name("persistor")
LINES: list[dict[str, Any]] = [
    {"name": "ann", "role": "operator"},
    {"name": "bob", "role": "operator"},
    {"name": "eve", "role": "viewer"},
    {"name": "far", "role": "operator", "destinations": ["other"]},
    {"name": "root", "role": "admin"},
]


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer t-{name}"}


@pytest.fixture
def tokens(tmp_path: Path) -> str:
    file = tmp_path / "tokens.yaml"
    file.write_text(json.dumps([line | {"sha256": digest_of(f"t-{line['name']}")} for line in LINES]))
    return str(file)


@pytest.fixture
def api(site: Site, nats: Nats, tokens: str) -> Iterator[Client]:
    site.archive(*(order(n) for n in range(20)))
    destinations = {"main": nats.url, "other": nats.url}
    with site.serve(destinations, tokens=tokens, approval=("main",), inline_limit=100) as client:
        yield client


def ask(api: Client, name: str, path: str, content: object = None, status: int = 200) -> dict[str, Any]:
    response = api.post(f"/v1/{path}", json=content or {}, headers=bearer(name))
    assert response.status_code == status, response.text
    return dict(response.json())


def planned(api: Client, topic: str, by: str = "ann", **more: object) -> dict[str, Any]:
    body = {"destination": "main", "topic": topic, "selection": {"sources": ["orders"]}, **more}
    return ask(api, by, "plans", body)


def sent(api: Client, job: dict[str, Any]) -> bool:
    row = api.get(f"/v1/resubmissions/{job['id']}", headers=bearer("root")).json()
    return bool(row["state"] == "COMPLETED")


def test_a_plan_is_run_only_after_another_person_has_approved_it(
    api: Client, streams: Streams, topic: str
) -> None:
    plan = planned(api, topic)
    assert (plan["possible"], plan["approval"]) == (
        ["approve", "cancel"],
        {"planned_by": "ann", "by": None, "at": None},
    )
    ask(api, "bob", "resubmissions", {"plan": plan["id"]}, 409)
    there = f"resubmissions/{plan['id']}/approve"
    for name, status in (("ann", 403), ("eve", 403), ("far", 403)):
        ask(api, name, there, status=status)
    ask(api, "ann", "resubmissions", {"plan": plan["id"]}, 409)
    assert streams.count(topic) == 0
    approved = ask(api, "bob", there)
    assert (approved["possible"], approved["approval"]["by"]) == (["run", "cancel"], "bob")
    ask(api, "root", there, status=409)
    job = ask(api, "ann", "resubmissions", {"plan": plan["id"]}, 202)
    wait_until(lambda: sent(api, job), 60, "it to be sent")
    assert streams.count(topic) == 20
    records = api.get(f"/v1/audit?job={plan['id']}", headers=bearer("root")).json()["records"]
    assert [(record["action"], record["who"]) for record in records] == [
        ("run", "ann"),
        ("approve", "bob"),
        ("plan", "ann"),
    ]
    assert len(records[1]["plan"]) == 64


def test_nothing_is_sent_there_without_a_plan(api: Client, streams: Streams, topic: str) -> None:
    body = {"destination": "main", "topic": topic, "selection": {"ids": ["orders_0_0"]}}
    refused = ask(api, "ann", "resubmissions", body, 422)
    assert "takes only approved plans" in refused["detail"]
    assert streams.count(topic) == 0
    assert ask(api, "ann", "resubmissions", {**body, "destination": "other"}, 202)["state"] == "COMPLETED"


def test_an_approval_is_of_the_plan_in_the_lake_and_of_no_other(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    plan = planned(api, topic)
    ask(api, "bob", f"resubmissions/{plan['id']}/approve")
    [path] = (site.directory / "lake").glob(f"_persistor/plans/{plan['id']}/plan.json")
    stored = json.loads(path.read_bytes())
    path.write_text(json.dumps({**stored, "messages": stored["messages"] + 1}))
    refused = ask(api, "ann", "resubmissions", {"plan": plan["id"]}, 422)
    assert "is not the one that was approved" in refused["detail"]
    assert streams.count(topic) == 0


def test_the_command_approves_and_runs_only_what_is_approved(site: Site, api: Client, topic: str) -> None:
    plan = planned(api, topic)
    place = ["--index", site.index_url]
    run = [PROGRAM, "resubmit", *place, "--lake", site.lake.url, "--plan", plan["id"]]
    refused = subprocess.run(run, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "possible: approve, cancel" in refused.stderr
    command = [PROGRAM, "jobs", *place, "--job", plan["id"], "--action", "approve"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "approval" in shown
    assert ask(api, "ann", "resubmissions", {"plan": plan["id"]}, 202)["id"] == plan["id"]


def test_approval_needs_tokens_and_a_destination(site: Site, tokens: str) -> None:
    destinations = {"main": "nats://127.0.0.1:1"}
    with pytest.raises(ConfigurationError, match="`approval` needs `tokens`"):
        create_app(site.settings(destinations, approval=("main",)))
    with pytest.raises(ConfigurationError, match="`approval: mian`: no `destination` has this name"):
        create_app(site.settings(destinations, approval=("mian",), tokens=tokens))
