"""What a token opens: its sources and destinations, everywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask

from resubmit_api.views import audit
from tests.api.auth._auth import (
    MISSING,
    PLANS,
    RESUBMISSIONS,
    SEARCH,
    bearer,
    problem_of,
)
from tests.api.conftest import Client, Site, Streams, order
from tests.servers.nats import Nats


class TestAllowLists:
    def found(self, service: Client, name: str, selection: dict[str, Any]) -> list[str]:
        answer = service.post(SEARCH, json={"selection": selection}, headers=bearer(name))
        assert answer.status_code == 200, answer.text
        return [message["id"] for message in answer.json()["messages"]]

    def test_a_search_is_confined_to_the_sources_that_are_open(self, service: Client) -> None:
        both = ["orders_0_0", "payments_0_0"]
        assert self.found(service, "viewer", {"all": True}) == both
        assert self.found(service, "narrow", {"all": True}) == ["orders_0_0"]
        assert self.found(service, "nothing", {"all": True}) == []
        for selection in (
            {"ids": both},
            {"where": [{"topic": "payments"}, {"topic": "orders"}]},
            {"where": [{"id": {"prefix": ""}}]},
            {"published_from": "2000-01-01T00:00:00Z"},
            {"sources": ["orders"]},
        ):
            assert self.found(service, "narrow", selection) == ["orders_0_0"]
            assert "sources" in selection or self.found(service, "nothing", selection) == []

    @pytest.mark.parametrize("sources", [["payments"], ["orders", "payments"], ["unknown"], ["Orders"], [""]])
    def test_a_selection_that_names_another_source_is_refused(
        self, service: Client, sources: list[str]
    ) -> None:
        selection = {"selection": {"sources": sources}}
        body = {"destination": "main", "topic": "orders-replay"} | selection
        for address, asked in ((SEARCH, selection), (PLANS, body), (RESUBMISSIONS, body)):
            answer = service.post(address, json=asked, headers=bearer("narrow"))
            assert "This token may not" in problem_of(answer, 403, "forbidden")

    def test_messages_of_other_sources_are_not_there(self, service: Client) -> None:
        for place in ("", "/payload"):
            assert service.get(f"/v1/messages/orders_0_0{place}", headers=bearer("narrow")).status_code == 200
            hidden = service.get(f"/v1/messages/payments_0_0{place}", headers=bearer("narrow"))
            absent = service.get(f"/v1/messages/payments_0_9{place}", headers=bearer("narrow"))
            assert problem_of(hidden, 404, "message") == problem_of(absent, 404, "message")

    @pytest.mark.parametrize(
        ("destination", "topic"),
        [("main", "payments"), ("main", "{topic}-replay"), ("other", "orders-x"), ("main", "Orders-x")],
    )
    @pytest.mark.parametrize("address", [PLANS, RESUBMISSIONS])
    def test_only_open_destinations_are_sent_to(
        self, service: Client, address: str, destination: str, topic: str
    ) -> None:
        body = {"destination": destination, "topic": topic, "selection": {"sources": ["orders"]}}
        answer = service.post(address, json=body, headers=bearer("narrow"))
        assert "This token may not" in problem_of(answer, 403, "forbidden")

    def test_a_resubmission_sends_only_open_sources_and_others_do_not_see_it(
        self, site: Site, tokens: Path, nats: Nats, streams: Streams
    ) -> None:
        site.archive(order(0))
        site.archive(order(0, topic="payments", data=b"secret"), source="payments")
        streams.create("orders-narrow")
        body = {"destination": "main", "topic": "orders-narrow", "selection": {"all": True}}
        with site.serve({"main": nats.url}, tokens=str(tokens)) as client:
            ours = client.post(RESUBMISSIONS, json=body, headers=bearer("narrow")).json()
            assert (ours["state"], ours["requested_by"]) == ("COMPLETED", "narrow")
            assert ours["selection"] == {"sources": ["orders"]}
            assert streams.payloads("orders-narrow") == [b"order 0"]
            theirs = client.post(RESUBMISSIONS, json=body, headers=bearer("operator")).json()
            assert theirs["progress"]["published"] == 2
            for name, seen in (("narrow", [ours]), ("viewer", [theirs, ours]), ("nothing", [])):
                listed = client.get(RESUBMISSIONS, headers=bearer(name)).json()["resubmissions"]
                assert [job["id"] for job in listed] == [job["id"] for job in seen]
                for job in (ours, theirs):
                    answer = client.get(f"{RESUBMISSIONS}/{job['id']}", headers=bearer(name))
                    assert answer.status_code == (200 if job in seen else 404)

    def test_plans_and_jobs_of_others_are_not_there_and_not_controlled(
        self, site: Site, tokens: Path, nats: Nats, streams: Streams
    ) -> None:
        site.archive(order(0))
        site.archive(order(0, topic="payments"), source="payments")
        streams.create("orders-plans")
        streams.create("elsewhere")
        with site.serve({"main": nats.url}, tokens=str(tokens)) as client:

            def plan(name: str, topic: str, **selection: Any) -> dict[str, Any]:
                body = {"destination": "main", "topic": topic, "selection": selection}
                answer = client.post(PLANS, json=body, headers=bearer(name))
                assert answer.status_code == 200, answer.text
                return dict(answer.json())

            ours = plan("narrow", "orders-plans", all=True)
            assert [part["source"] for part in ours["plan"]["sources"]] == ["orders"]
            for other, status in (
                (plan("operator", "orders-plans", all=True), 404),
                (plan("operator", "orders-plans", sources=["payments"]), 404),
                (plan("operator", "elsewhere", sources=["orders"]), 403),
            ):
                place = f"{RESUBMISSIONS}/{other['id']}"
                looked = client.get(f"{PLANS}/{other['id']}", headers=bearer("narrow"))
                assert looked.status_code == (404 if status == 404 else 200)
                for method, address, body in (
                    ("POST", RESUBMISSIONS, {"plan": other["id"]}),
                    ("PATCH", place, {"rate": {}}),
                    *(("POST", f"{place}/{action}", {}) for action in ("pause", "resume", "cancel", "retry")),
                    *(("POST", f"/jobs/{other['id']}/{action}", {}) for action in ("run", "cancel")),
                ):
                    answer = client.request(method, address, json=body, headers=bearer("narrow"))
                    assert answer.status_code == status, (method, address, answer.text)
            run = client.post(RESUBMISSIONS, json={"plan": ours["id"]}, headers=bearer("narrow"))
            assert run.status_code == 202

    def test_no_page_and_no_list_shows_other_sources(self, app: APIFlask, site: Site) -> None:
        letter = [{"name": "persistor-error-category", "value": b"permanent"}]
        for source in ("orders", "payments"):
            site.archive(order(0, topic=source, headers=letter), source=source)
        client = app.test_client()
        shown = set()
        for rule in app.url_map.iter_rules():
            if "GET" in (rule.methods or set()) and not rule.arguments:
                texts = {
                    name: client.get(rule.rule, headers=bearer(name)).get_data(as_text=True)
                    for name in ("narrow", "viewer")
                }
                assert "payments" not in texts["narrow"], rule
                shown |= {rule.rule} if "payments" in texts["viewer"] else set()
        assert shown >= {"/overview", "/explore", "/dead-letters"}

    def test_forms_offer_open_destinations_only(self, site: Site, tokens: Path) -> None:
        letter = [{"name": "persistor-error-category", "value": b"permanent"}]
        site.archive(order(0, headers=letter))
        names = {"main": MISSING, "elsewhere": MISSING}
        with site.serve(names, tokens=str(tokens)) as client:
            pages = {name: client.get("/resubmit", headers=bearer(name)).text for name in ("narrow", "admin")}
            assert "<option selected>main</option>" in pages["narrow"]
            assert "elsewhere" not in pages["narrow"]
            assert "<option selected>elsewhere</option>" in pages["admin"]
            letters = {
                name: client.get("/dead-letters", headers=bearer(name)).text for name in ("narrow", "admin")
            }
        # What goes back may go anywhere, which this token's destinations do not cover.
        assert "Inspect" in letters["narrow"]
        assert "send-back" not in letters["narrow"]
        assert "elsewhere" not in letters["narrow"]
        assert "send-back" in letters["admin"]

    def test_no_page_has_an_address_that_a_collection_could_have(self, app: APIFlask) -> None:
        rules = [rule for rule in app.url_map.iter_rules() if not rule.endpoint.startswith("compatible.")]
        first = re.compile("/(resubmit|range|query|exact|all)/")
        assert [rule.rule for rule in rules if first.match(rule.rule)] == []

    def test_views_reach_the_index_through_the_caller_only(self) -> None:
        views = Path(audit.__file__).parent.glob("*.py")
        raw = {file.name for file in views if "backends.index" in file.read_text()}
        # Its own trail, and the place where the caller's index is made.
        assert raw == {"audit.py", "context.py"}
