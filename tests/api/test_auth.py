"""Who may do what: tokens, roles, allow-lists, logins, and what a browser is not made to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
import requests
from apiflask import APIFlask
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from flask.testing import FlaskClient

from resubmit_api.app import close_app, create_app
from resubmit_api.auth import CSRF_HEADER, SESSION_SECONDS, role_of
from resubmit_api.auth.tokens import Role, digest_of
from resubmit_api.views import audit
from tests.api.conftest import Client, Site, Streams, order
from tests.servers.nats import Nats
from transforms.errors import ConfigurationError

KEY = "k" * 32
NARROW = {"sources": ["orders*"], "destinations": ["main/orders-*"]}
LINES: dict[str, dict[str, Any]] = {
    "viewer": {"role": "viewer"},
    "operator": {"role": "operator"},
    "admin": {"role": "admin"},
    "narrow": {"role": "operator"} | NARROW,
    "nothing": {"role": "viewer", "sources": []},
}
SEARCH, PLANS, RESUBMISSIONS = "/v1/messages/search", "/v1/plans", "/v1/resubmissions"
LOOKING = {"messages.search", "compatible.query", "compatible.look_up", "pages_explore.written"}
"""What is asked with a body and changes nothing."""

MISSING = "nats://127.0.0.1:1"


def write_tokens(file: Path, *names: str) -> str:
    """The list of tokens in which each token is ``t-`` and its name."""
    lines = [{"name": name, "sha256": digest_of(f"t-{name}")} | LINES[name] for name in names]
    new = file.with_suffix(".new")
    new.write_text(json.dumps(lines))
    new.replace(file)
    return str(file)


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer t-{name}"}


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.yaml"
    write_tokens(file, *LINES)
    return file


@pytest.fixture
def service(site: Site, tokens: Path) -> Iterator[Client]:
    """A service that lets the five in, with a message of ``orders`` and one of ``payments``."""
    site.archive(order(0))
    site.archive(order(0, topic="payments"), source="payments")
    with site.serve({"main": MISSING}, tokens=str(tokens), session_key=KEY) as client:
        yield client


@pytest.fixture
def app(site: Site, tokens: Path) -> Iterator[APIFlask]:
    more = {"tokens": str(tokens), "session_key": KEY, "compatible": (("c", "main"),)}
    made = create_app(site.settings({"main": MISSING}, **more))
    yield made
    close_app(made)


def problem_of(response: requests.Response, status: int, kind: str) -> str:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["type"] == f"urn:persistor:problem:{kind}"
    return str(response.json()["detail"])


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
    def test_without_a_valid_token_nothing_is_told(self, app: APIFlask, header: str | None) -> None:
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

    def test_a_token_is_used_so_often_and_then_told_when_again(self, site: Site, tokens: Path) -> None:
        with site.serve({"main": MISSING}, tokens=str(tokens), requests_per_minute=5) as client:
            answers = [client.get(RESUBMISSIONS, headers=bearer("viewer")) for _ in range(6)]
            assert [answer.status_code for answer in answers] == [200] * 5 + [429]
            problem_of(answers[-1], 429, "limit")
            assert int(answers[-1].headers["Retry-After"]) in range(1, 13)
            assert client.get(RESUBMISSIONS, headers=bearer("admin")).status_code == 200
            assert client.get("/healthz").status_code == 200


class TestRoles:
    def test_every_view_says_who_may_call_it(self, app: APIFlask) -> None:
        assert [rule for rule in app.url_map.iter_rules() if role_of(app, rule.endpoint) is None] == []

    def test_only_these_are_open_to_anyone(self, app: APIFlask) -> None:
        rules = app.url_map.iter_rules()
        free = {rule.rule for rule in rules if role_of(app, rule.endpoint) is Role.ANYONE}
        assert free == {
            "/static/<path:filename>",
            "/openapi.json",
            "/docs",
            "/healthz",
            "/readyz",
            "/login",
            "/logout",
        }

    def test_what_sends_or_changes_needs_an_operator(self, app: APIFlask) -> None:
        safe = {"GET", "HEAD", "OPTIONS"}
        rules = [rule for rule in app.url_map.iter_rules() if (rule.methods or set()) - safe]
        lower = {rule.endpoint for rule in rules if role_of(app, rule.endpoint) < Role.OPERATOR}
        assert lower == LOOKING | {"session.login", "session.logout"}

    def test_a_view_that_declares_nothing_is_for_administrators(self, app: APIFlask) -> None:
        app.add_url_rule("/undeclared", "undeclared", lambda: "shown")
        statuses = {
            name: app.test_client().get("/undeclared", headers=bearer(name)).status_code
            for name in ("viewer", "operator", "admin")
        }
        assert statuses == {"viewer": 403, "operator": 403, "admin": 200}

    def test_each_route_lets_its_roles_in_and_nobody_else(self, app: APIFlask) -> None:
        client = app.test_client()
        for rule in list(app.url_map.iter_rules()):
            address = re.sub(r"<any\((\w+)[^>]*>", r"\1", rule.rule)
            address = re.sub(r"<[^>]*>", "x", address)
            for method in sorted((rule.methods or set()) - {"OPTIONS"}):
                needed = role_of(app, rule.endpoint)
                assert ask(client, method, address, None) == (needed is Role.ANYONE), rule
                for name in ("viewer", "operator", "admin"):
                    may = needed <= Role[name.upper()]
                    assert ask(client, method, address, name) == may, (rule, method, name)


def ask(client: FlaskClient, method: str, address: str, name: str | None) -> bool:
    """Whether a request gets as far as its view."""
    body = {"json": {}} if method not in {"GET", "HEAD"} else {}
    answer = client.open(address, method=method, headers=bearer(name) if name else {}, **body)
    kind = (answer.get_json(silent=True) or {}).get("type", "")
    if address == "/login" and method == "POST":
        return True  # it answers 401 itself
    return answer.status_code not in {401, 403} and "unauthenticated" not in kind


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
            assert "not open to this token" in problem_of(answer, 403, "forbidden")

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
        assert "not open to this token" in problem_of(answer, 403, "forbidden")

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
        # Its own trail, health and counts, and the place where the caller's index is made.
        assert raw == {"audit.py", "operations.py", "context.py"}


class TestLogins:
    @pytest.fixture
    def browser(self, service: Client) -> Client:
        """Logged in as an operator."""
        answer = log_in(service, "operator")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")
        return service

    def test_the_cookie_is_for_the_browser_alone_and_ends(self, service: Client) -> None:
        cookies = SimpleCookie(log_in(service, "viewer").headers["Set-Cookie"])
        assert list(cookies) == ["persistor"]
        cookie = cookies["persistor"]
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
        assert (cookie["secure"], cookie["domain"]) == ("", "")
        assert cookie["expires"]
        assert "t-viewer" not in cookie.value

    def test_behind_https_the_cookie_is_bound_to_it(self, app: APIFlask) -> None:
        answer = app.test_client().post("/login", data={"token": "t-viewer"}, base_url="https://x.example")
        [cookie] = SimpleCookie(answer.headers["Set-Cookie"]).values()
        assert (cookie.key, cookie["secure"], cookie["httponly"]) == ("__Host-persistor", True, True)
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"

    def test_a_login_looks_without_more_and_changes_with_its_csrf_token(self, browser: Client) -> None:
        assert browser.get("/v1/messages/orders_0_0").status_code == 200
        body = {"destination": "other", "topic": "t", "selection": {"all": True}}
        for headers in ({}, {CSRF_HEADER: ""}, {CSRF_HEADER: "wrong"}, {CSRF_HEADER: "\xe4"}):
            for address in (SEARCH, PLANS, RESUBMISSIONS):
                problem_of(browser.post(address, json=body, headers=headers), 403, "forgery")
        answer = browser.post(RESUBMISSIONS, json=body, headers={CSRF_HEADER: csrf_of(browser)})
        assert problem_of(answer, 422, "refused").startswith("No destination has that name")

    def test_every_page_of_a_login_holds_its_csrf_token(self, browser: Client) -> None:
        for page in ("/", "/explore", "/resubmit", "/jobs", "/dead-letters"):
            held = re.findall(r'hx-headers=\'{"X-CSRF-Token": "([^"]+)"}\'', browser.get(page).text)
            assert held == [csrf_of(browser)]
        answer = browser.post("/resubmit-request", data={}, headers={CSRF_HEADER: held[0]})
        assert answer.status_code == 200

    def test_another_logins_csrf_token_is_of_no_use(self, service: Client) -> None:
        log_in(service, "operator")
        other = Client(service.url)
        log_in(other, "admin")
        headers = {CSRF_HEADER: csrf_of(other)}
        problem_of(service.post(SEARCH, json={"selection": {"all": True}}, headers=headers), 403, "forgery")

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://["},
            {"Origin": ""},
            {"Origin": "http://127.0.0.1:1"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ],
    )
    def test_a_page_of_another_site_changes_nothing(
        self, service: Client, site: Site, headers: dict[str, str]
    ) -> None:
        problem_of(service.post("/login", data={"token": "t-admin"}, headers=headers), 403, "forgery")
        log_in(service, "operator")
        whole = headers | {CSRF_HEADER: csrf_of(service)}
        problem_of(service.post(SEARCH, json={"selection": {"all": True}}, headers=whole), 403, "forgery")
        problem_of(service.post("/logout", headers=headers), 403, "forgery")
        with site.serve({"main": MISSING}) as local:  # where nobody has to log in
            problem_of(local.post(SEARCH, json={"selection": {"all": True}}, headers=headers), 403, "forgery")

    def test_our_own_pages_may(self, browser: Client) -> None:
        for headers in ({"Origin": browser.url}, {"Sec-Fetch-Site": "same-origin", "Origin": browser.url}):
            whole = headers | {CSRF_HEADER: csrf_of(browser)}
            assert browser.post(SEARCH, json={"selection": {"all": True}}, headers=whole).status_code == 200

    def test_a_forged_or_altered_cookie_is_nobodys(self, browser: Client) -> None:
        [whole] = browser.cookies.values()
        data, time, signature = whole.rsplit(".", 2)
        for forged in (f"{data}.{time}.{signature[::-1]}", f"{data[::-1]}.{time}.{signature}", data, "x", ""):
            headers = {"Cookie": f"persistor={forged}"}
            problem_of(Client(browser.url).get(RESUBMISSIONS, headers=headers), 401, "unauthenticated")

    def test_a_login_ends_after_its_time(self, app: APIFlask, monkeypatch: pytest.MonkeyPatch) -> None:
        client = app.test_client()
        client.post("/login", data={"token": "t-viewer"})
        assert client.get(RESUBMISSIONS).status_code == 200
        app.config["PERMANENT_SESSION_LIFETIME"] = -1
        assert client.get(RESUBMISSIONS).status_code == 401
        assert SESSION_SECONDS <= 12 * 3600

    def test_a_revoked_token_ends_its_logins(self, browser: Client, tokens: Path) -> None:
        assert browser.get(RESUBMISSIONS).status_code == 200
        write_tokens(tokens, "viewer", "admin")
        problem_of(browser.get(RESUBMISSIONS), 401, "unauthenticated")

    def test_a_new_token_of_the_same_name_ends_the_logins_of_the_old_one(
        self, browser: Client, tokens: Path
    ) -> None:
        tokens.write_text(json.dumps([{"name": "operator", "role": "admin", "sha256": digest_of("new")}]))
        problem_of(browser.get(RESUBMISSIONS), 401, "unauthenticated")

    def test_a_login_holds_for_replicas_with_the_same_key_only(
        self, browser: Client, site: Site, tokens: Path
    ) -> None:
        for key, status in ((KEY, 200), ("x" * 32, 401), (None, 401)):
            with site.serve({"main": MISSING}, tokens=str(tokens), session_key=key) as other:
                other.cookies.update(browser.cookies)
                assert other.get(RESUBMISSIONS).status_code == status

    def test_a_key_that_could_be_guessed_is_refused(self, site: Site) -> None:
        with (
            pytest.raises(ConfigurationError, match="--session_key: give 32 characters"),
            site.serve({"main": MISSING}, session_key="k" * 31),
        ):
            pass

    def test_logging_out_takes_the_cookie_back(self, browser: Client) -> None:
        problem_of(browser.post("/logout"), 403, "forgery")
        answer = browser.post("/logout", data={"csrf_token": csrf_of(browser)}, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
        problem_of(browser.get(RESUBMISSIONS), 401, "unauthenticated")

    def test_a_wrong_token_is_told_on_the_page(self, service: Client) -> None:
        answer = log_in(service, "nobody")
        assert (answer.status_code, "Set-Cookie" in answer.headers) == (401, False)
        assert "not valid, or was revoked" in answer.text

    def test_a_browser_is_led_to_the_login_and_back(self, service: Client) -> None:
        headers = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        answer = service.get("/v1/resubmissions?limit=5", headers=headers, allow_redirects=False)
        assert answer.status_code == 303
        assert answer.headers["Location"] == "/login?next=/v1/resubmissions?limit%3D5"
        page = service.get(answer.headers["Location"]).text
        assert 'name="next" value="/v1/resubmissions?limit=5"' in page
        back = log_in(service, "viewer", next="/v1/resubmissions?limit=5")
        assert back.headers["Location"] == "/v1/resubmissions?limit=5"

    @pytest.mark.parametrize(
        "place",
        [
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "\\\\evil.example",
            "javascript:alert(1)",
            "evil",
            "/a\r\nSet-Cookie: x=1",
            "//[",
        ],
    )
    def test_a_link_to_the_login_leads_nowhere_else(self, service: Client, place: str) -> None:
        answer = log_in(service, "viewer", next=place)
        assert answer.headers["Location"] == "/"
        assert list(SimpleCookie(answer.headers["Set-Cookie"])) == ["persistor"]

    def test_a_part_of_a_page_that_needs_a_login_asks_the_whole_page_for_it(self, service: Client) -> None:
        answer = service.post(SEARCH, json={}, headers={"HX-Request": "true"})
        problem_of(answer, 401, "unauthenticated")
        assert answer.headers["HX-Redirect"] == "/login"

    def test_a_token_in_the_header_needs_nothing_else_and_counts_before_the_cookie(
        self, browser: Client
    ) -> None:
        body = {"selection": {"all": True}}
        assert browser.post(SEARCH, json=body, headers=bearer("viewer")).status_code == 200
        wrong = {"Authorization": "Bearer t-nobody"}
        problem_of(browser.post(SEARCH, json=body, headers=wrong), 401, "unauthenticated")


def log_in(client: Client, name: str, **fields: str) -> requests.Response:
    return client.post("/login", data={"token": f"t-{name}"} | fields, allow_redirects=False)


def csrf_of(client: Client) -> str:
    """What a page of a login holds for its requests."""
    app = Flask("reader")
    app.secret_key = KEY
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    [cookie] = client.cookies.values()
    return str(serializer.loads(cookie)["csrf"])


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
            "Topic payments of destination main is not open to this token.",
        ]

    def test_the_trail_is_read_in_pages(self, service: Client) -> None:
        for _ in range(5):
            log_in(service, "viewer")
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


def test_the_document_says_how_to_be_let_in_and_who_is(service: Client) -> None:
    spec = service.get("/openapi.json").json()
    schemes = spec["components"]["securitySchemes"]
    assert (schemes["token"]["type"], schemes["token"]["scheme"]) == ("http", "bearer")
    assert (schemes["login"]["in"], schemes["login"]["name"]) == ("cookie", "persistor")
    plan, health = spec["paths"][PLANS]["post"], spec["paths"]["/healthz"]["get"]
    assert plan["security"] == [{"token": []}, {"login": []}]
    assert plan["description"].endswith("For the role operator.")
    assert {"401", "403", "429"} <= set(plan["responses"])
    assert "security" not in health


def test_hostile_headers_reach_neither_the_answer_nor_another_host(service: Client) -> None:
    hostile = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "127.0.0.1",
        "X-Original-URL": "/v1/audit",
        "X-HTTP-Method-Override": "DELETE",
        "Forwarded": "host=evil.example;proto=https",
        "Cookie": "persistor=x; __Host-persistor=y",
        "Accept": "text/html",
    }
    answer = service.get(RESUBMISSIONS, headers=hostile, allow_redirects=False)
    assert answer.headers["Location"] == "/login?next=/v1/resubmissions"
    assert "evil" not in answer.text + str(answer.headers)
    assert "Strict-Transport-Security" not in answer.headers
