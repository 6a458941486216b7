"""People in front of the pages: logins, their cookies, and what a browser is not made to do."""

from __future__ import annotations

import json
import re
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from apiflask import APIFlask

from resubmit_api.auth import CSRF_HEADER, SESSION_SECONDS
from resubmit_api.auth.tokens import digest_of
from tests.api.auth._auth import (
    KEY,
    MISSING,
    PLANS,
    RESUBMISSIONS,
    SEARCH,
    bearer,
    csrf_of,
    log_in,
    problem_of,
    write_tokens,
)
from tests.api.conftest import Client, Site
from transforms.errors import ConfigurationError


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
        assert problem_of(answer, 422, "refused").startswith("No destination has this name")

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
            pytest.raises(ConfigurationError, match="`session_key`: give 32 characters"),
            site.serve({"main": MISSING}, session_key="k" * 31),
        ):
            pass

    def test_logging_out_takes_the_cookie_back(self, browser: Client) -> None:
        problem_of(browser.post("/logout"), 403, "forgery")
        answer = browser.post("/logout", data={"csrf_token": csrf_of(browser)}, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
        problem_of(browser.get(RESUBMISSIONS), 401, "unauthenticated")

    def test_a_wrong_token_is_reported_on_the_page(self, service: Client) -> None:
        answer = log_in(service, "nobody")
        assert (answer.status_code, "Set-Cookie" in answer.headers) == (401, False)
        assert "invalid or was revoked" in answer.text

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
