"""The figures of the overview, dead letters by cause and the audit trail, each as JSON and as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from resubmit_api.auth.tokens import digest_of
from tests.api.conftest import START, Client, Site, Streams, order
from tests.servers.nats import Nats

LINES = [
    {"name": "admin", "role": "admin"},
    {"name": "viewer", "role": "viewer"},
    {"name": "narrow", "role": "viewer", "sources": ["orders"]},
    {"name": "elsewhere", "role": "admin", "sources": ["dead"]},
]


def letter(offset: int, category: str) -> dict[str, Any]:
    said = {"stage": "write", "category": category, "reason": "No number.", "source": "orders"}
    headers = [{"name": f"persistor-error-{name}", "value": text.encode()} for name, text in said.items()]
    return order(offset, headers=headers)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, nats: Nats, streams: Streams) -> Iterator[Client]:
    site = Site.at(tmp_path_factory.mktemp("sources"))
    site.archive(*map(order, range(4)), rows_per_file=2)
    site.archive(*(letter(n, "gave_up" if n else "permanent") for n in range(3)), source="dead")
    streams.create("sources-replay")
    lines = [line | {"sha256": digest_of(f"t-{line['name']}")} for line in LINES]
    (site.directory / "tokens.yaml").write_text(json.dumps(lines))
    with site.serve({"main": nats.url}, tokens=str(site.directory / "tokens.yaml")) as client:
        yield client
    site.index.close()


def ask(service: Client, path: str, name: str = "admin", **query: Any) -> Any:
    answer = service.get(path, headers={"Authorization": f"Bearer t-{name}"}, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json() if path.startswith("/v1/") else answer.text


def send(service: Client, path: str, **body: Any) -> str:
    answer = service.post(path, json=body, headers={"Authorization": "Bearer t-admin"})
    assert answer.status_code in {200, 202}, answer.text
    return str(answer.json().get("id", ""))


def test_the_figures_of_each_source_are_reported(service: Client) -> None:
    told = ask(service, "/v1/sources")
    assert [source["source"] for source in told["sources"]] == ["dead", "orders"]
    orders = told["sources"][1]
    assert orders | {"bytes": 0} == {
        "source": "orders",
        "messages": 4,
        "bytes": 0,
        "exact": True,
        "files": 2,
        "oldest": "2023-11-14T22:13:20.000000Z",
        "newest": "2023-11-14T22:13:23.000000Z",
        "rate": 0.0,
        "dead_letters": 3,
        "lag": None,
        "waiting_seconds": None,
    }
    assert START == 1_700_000_000_000_000
    assert told["silent"] == []


def test_dead_letters_are_reported_by_cause_with_the_selection_that_means_them(service: Client) -> None:
    told = ask(service, "/v1/dead-letters")
    assert (told["messages"], told["complete"]) == (3, True)
    kinds = [(kind["category"], kind["source"], kind["messages"], kind["held_in"]) for kind in told["kinds"]]
    assert kinds == [("gave_up", "orders", 2, "dead"), ("permanent", "orders", 1, "dead")]
    headers = {"Authorization": "Bearer t-admin"}
    for kind in told["kinds"]:
        body = {"selection": kind["selection"]}
        found = service.post("/v1/messages/search", json=body, headers=headers).json()["messages"]
        assert len(found) == kind["messages"]
        assert {entry["attributes"]["persistor-error-category"] for entry in found} == {kind["category"]}


def test_only_sources_that_are_open_to_a_token_are_reported(service: Client) -> None:
    assert [source["source"] for source in ask(service, "/v1/sources", "narrow")["sources"]] == ["orders"]
    assert ask(service, "/v1/dead-letters", "narrow") == {"kinds": [], "messages": 0, "complete": True}
    assert len(ask(service, "/v1/dead-letters", "elsewhere")["kinds"]) == 2


def test_the_audit_trail_of_one_job_is_found_among_all(service: Client) -> None:
    body = {"destination": "main", "topic": "sources-replay", "selection": {"ids": ["orders_0_0"]}}
    jobs = [send(service, "/v1/plans", **body) for _ in range(3)]
    send(service, f"/v1/resubmissions/{jobs[1]}/cancel")
    found = ask(service, "/v1/audit", job=jobs[1])
    assert [(record["action"], record["job"]) for record in found["records"]] == [
        ("cancel", jobs[1]),
        ("plan", jobs[1]),
    ]
    assert found["next"] is None
    first = ask(service, "/v1/audit", job=jobs[1], limit=1)
    second = ask(service, "/v1/audit", job=jobs[1], limit=1, cursor=first["next"])
    assert [record["action"] for record in first["records"] + second["records"]] == ["cancel", "plan"]
    assert ask(service, "/v1/audit", job="nothing")["records"] == []
    page = ask(service, "/audit", job=jobs[1])
    assert page.count(f"/jobs/{jobs[1]}") == 2
    assert jobs[0] not in page


def test_the_page_of_the_audit_trail_is_for_admins(service: Client) -> None:
    refused = service.get("/audit", headers={"Authorization": "Bearer t-viewer"})
    assert refused.status_code == 403
    assert 'href="/audit"' not in ask(service, "/jobs", "viewer")
    page = ask(service, "/audit")
    assert "viewer" in page  # whose refusal is on record
    assert "was denied" in page
    assert "GET /audit" in page
