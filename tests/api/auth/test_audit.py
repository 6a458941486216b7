"""The audit trail of the service: who did what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.api.auth._auth import (
    RESUBMISSIONS,
    bearer,
    csrf_of,
    log_in,
)
from tests.api.conftest import Client, Site, Streams, order
from tests.servers import wait_until
from tests.servers.nats import Nats


class TestAudit:
    def trail(self, client: Client, name: str = "admin") -> list[dict[str, Any]]:
        answer = client.get("/v1/audit", headers=bearer(name))
        assert answer.status_code == 200, answer.text
        return list(reversed(answer.json()["records"]))

    def test_logins_and_refusals_are_in_the_trail(self, service: Client) -> None:
        log_in(service, "operator")
        service.post("/logout", data={"csrf_token": csrf_of(service)}, allow_redirects=False)
        log_in(service, "nobody")
        service.get("/v1/audit", headers=bearer("operator"))
        service.post("/login", data={}, headers={"Origin": "https://evil.example"})
        body = {"destination": "main", "topic": "payments", "selection": {"all": True}}
        service.post(RESUBMISSIONS, json=body, headers=bearer("narrow"))
        wait_until(lambda: len(self.trail(service)) == 5, 30, "the refused ones to be recorded")
        told = [(r["who"], r["action"], r["request"], r["address"]) for r in self.trail(service)]
        assert told == [
            ("operator", "login", "POST /login", "127.0.0.1"),
            ("operator", "logout", "POST /logout", "127.0.0.1"),
            (None, "refused", "POST /login", "127.0.0.1"),
            ("operator", "denied", "GET /v1/audit", "127.0.0.1"),
            ("narrow", "denied", "POST /v1/resubmissions", "127.0.0.1"),
        ]
        details = [record["detail"] for record in self.trail(service)]
        assert details[3:] == [
            "This needs the role admin.",
            "This token may not send to topic payments of destination main.",
        ]

    def test_the_trail_is_read_in_pages(self, service: Client) -> None:
        for _ in range(5):
            log_in(service, "viewer")
        wait_until(lambda: len(self.trail(service)) == 5, 30, "all to be recorded")
        found, cursor = [], ""
        while cursor is not None:
            page = service.get(f"/v1/audit?limit=2{cursor}", headers=bearer("admin")).json()
            found += [record["id"] for record in page["records"]]
            cursor = page["next"] and f"&cursor={page['next']}"
        assert found == sorted(set(found), reverse=True)
        assert len(found) == 5

    def test_no_token_is_in_the_trail(self, service: Client) -> None:
        service.get("/v1/messages/t-hidden", headers={"Authorization": "Bearer t-wrong"})
        log_in(service, "wrong")
        wait_until(lambda: len(self.trail(service)) == 2, 30, "both to be recorded")
        assert "t-wrong" not in json.dumps(self.trail(service))

    def test_what_is_sent_is_in_the_trail(
        self, site: Site, tokens: Path, nats: Nats, streams: Streams
    ) -> None:
        site.archive(order(0))
        streams.create("audited")
        body = {"destination": "main", "topic": "audited", "selection": {"sources": ["orders"]}}
        with site.serve({"main": nats.url}, tokens=str(tokens)) as client:
            job = client.post(RESUBMISSIONS, json=body, headers=bearer("operator")).json()
            [record] = [r for r in self.trail(client) if r["job"] == job["id"]]
            assert (record["who"], record["destination"], record["topic"], record["sources"]) == (
                "operator",
                "main",
                "audited",
                ["orders"],
            )
