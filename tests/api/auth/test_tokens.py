"""Who is let in: the tokens of the list as it is now, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest
from apiflask import APIFlask

from resubmit_api.auth.tokens import digest_of
from tests.api.auth._auth import (
    MISSING,
    PLANS,
    RESUBMISSIONS,
    SEARCH,
    bearer,
    problem_of,
    write_tokens,
)
from tests.api.conftest import Client, Site


class TestTokens:
    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer t-nobody",
            "Bearer t-viewer2",
            "Bearer t-viewer t-viewer",
            "Basic dC12aWV3ZXI6",
            "t-viewer",
            "Token t-viewer",
            f"Bearer {digest_of('t-viewer')}",
            "Bearer " + "x" * 8000,
            "Bearer \xe4\xf6\xfc",
            "Bearer t-viewer\x00",
            "Bearer ', 'a' OR 1=1 --",
        ],
    )
    def test_without_a_valid_token_nothing_is_shown(self, app: APIFlask, header: str | None) -> None:
        headers = {} if header is None else {"Authorization": header}
        answer = app.test_client().post(SEARCH, json={"selection": {"all": True}}, headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert answer.json["type"] == "urn:persistor:problem:unauthenticated"

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    def test_the_scheme_is_written_in_any_case(self, service: Client, scheme: str) -> None:
        answer = service.get("/v1/messages/orders_0_0", headers={"Authorization": f"{scheme} t-viewer"})
        assert answer.status_code == 200

    def test_a_token_is_not_taken_from_the_address_or_the_body(self, service: Client) -> None:
        address = "/v1/messages/orders_0_0?token=t-admin&access_token=t-admin"
        problem_of(service.get(address), 401, "unauthenticated")
        problem_of(service.post(SEARCH, data={"token": "t-admin"}), 401, "unauthenticated")

    def test_a_revoked_token_opens_nothing_from_the_next_request_on(
        self, service: Client, tokens: Path
    ) -> None:
        assert service.get("/v1/messages/orders_0_0", headers=bearer("viewer")).status_code == 200
        write_tokens(tokens, "admin")
        problem_of(service.get("/v1/messages/orders_0_0", headers=bearer("viewer")), 401, "unauthenticated")
        write_tokens(tokens, "admin", "viewer")
        assert service.get("/v1/messages/orders_0_0", headers=bearer("viewer")).status_code == 200

    def test_while_the_list_is_wrong_nobody_is_let_in(self, service: Client, tokens: Path) -> None:
        tokens.write_text("- {")
        answer = service.get("/v1/messages/orders_0_0", headers=bearer("admin"))
        assert "list of tokens" in problem_of(answer, 503, "unavailable")
        assert service.get("/healthz").status_code == 200

    def test_who_guesses_is_slowed_down_and_others_are_not(self, service: Client) -> None:
        wrong = {"Authorization": "Bearer t-guess"}
        answers = [service.get(RESUBMISSIONS, headers=wrong)]
        while answers[-1].status_code == 401 and len(answers) < 99:  # what is slow may try more often
            answers.append(service.get(RESUBMISSIONS, headers=wrong))
        assert len(answers) > 20
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["Retry-After"]) in range(1, 5)
        assert service.get(RESUBMISSIONS, headers=bearer("viewer")).status_code == 200

    def test_a_token_is_used_so_often_and_then_shown_when_again(self, site: Site, tokens: Path) -> None:
        with site.serve({"main": MISSING}, tokens=str(tokens), requests_per_minute=5) as client:
            answers = [client.get(RESUBMISSIONS, headers=bearer("viewer")) for _ in range(6)]
            assert [answer.status_code for answer in answers] == [200] * 5 + [429]
            problem_of(answers[-1], 429, "limit")
            assert int(answers[-1].headers["Retry-After"]) in range(1, 13)
            assert client.get(RESUBMISSIONS, headers=bearer("admin")).status_code == 200
            assert client.get("/healthz").status_code == 200


def test_the_document_says_how_to_be_let_in_and_who_is(service: Client) -> None:
    spec = service.get("/openapi.json").json()
    schemes = spec["components"]["securitySchemes"]
    assert (schemes["token"]["type"], schemes["token"]["scheme"]) == ("http", "bearer")
    assert (schemes["login"]["in"], schemes["login"]["name"]) == ("cookie", "persistor")
    plan, health = spec["paths"][PLANS]["post"], spec["paths"]["/healthz"]["get"]
    assert plan["security"] == [{"token": []}, {"login": []}]
    assert plan["description"].endswith("Requires the role operator.")
    assert {"401", "403", "429"} <= set(plan["responses"])
    assert "security" not in health
