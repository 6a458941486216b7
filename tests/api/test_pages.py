"""Whatever is asked of the pages, they answer with a page and stay up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resubmit_api.overview.remembered import CachedAnswer
from tests.api.conftest import Client, Site, order
from tests.servers import wait_until

EVIL = "<script>alert(1)</script>"
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(
        [EVIL, "\x00", "../../x", "{{7*7}}", "a\r\nX: y", "9" * 400, "$where", "' OR 1=1 --", "NaN"]
    ),
    st.sampled_from(
        ["{", "[]", '{"all": true}', '{"ids": ["orders_0_0"]}', '{"where": [{"size": {"gt": 1}}]}']
    ),
)
QUERIES = {
    "/explore": ("selection", "cursor", "from", "to", "ids", "source", "range"),
    "/explore/more": ("selection", "cursor"),
    "/explore/figures": ("selection",),
    "/explore/condition": ("x",),
    "/messages/orders_0_0": ("view",),
    "/resubmit": ("selection", "topic", "destination", "limit", "percent", "order", "restore"),
    "/jobs": ("state", "cursor"),
    "/jobs/table": ("state", "cursor"),
    "/dead-letters": ("x",),
    "/overview": ("x",),
    "/audit": ("job", "cursor"),
}
FORMS = {
    "/explore/selection": ("source", "from", "to", "ids", "field", "operator", "value", "join"),
    "/resubmit": ("selection", "topic", "destination", "limit", "percent", "timestamp", "lossy"),
    "/resubmit-request": ("selection", "topic", "destination", "limit", "percent", "order"),
    "/dead-letters/send-back": ("selection", "destination"),
    "/jobs/x/rate": ("messages_per_second", "bytes_per_second"),
    "/jobs/x/pause": ("x",),
}
QUICK = settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    site = Site.at(tmp_path_factory.mktemp("pages"))
    site.archive(order(0))
    with site.serve({"main": "nats://127.0.0.1:1"}) as client:
        yield client
    site.index.close()


def check(response: Any) -> None:
    assert response.status_code in {200, 400, 404, 422, 503}, (response.status_code, response.text)
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert EVIL not in response.text
    assert "X" not in response.headers


@pytest.mark.parametrize("address", QUERIES)
def test_any_query_is_answered_with_a_page(api: Client, address: str) -> None:
    @QUICK
    @given(st.fixed_dictionaries({}, optional=dict.fromkeys(QUERIES[address], TEXTS)))
    def ask(query: dict[str, str]) -> None:
        check(api.get(address, params=query))

    ask()


@pytest.mark.parametrize("address", FORMS)
def test_any_form_is_answered_with_a_page(api: Client, address: str) -> None:
    @QUICK
    @given(st.fixed_dictionaries({}, optional=dict.fromkeys(FORMS[address], TEXTS)))
    def send(form: dict[str, str]) -> None:
        check(api.post(address, data=form))

    send()


@QUICK
@given(text=TEXTS.filter(bool))
def test_any_id_is_answered_with_a_page(api: Client, text: str) -> None:
    id = quote(text.replace("/", "_").strip(".") or "x", safe="")
    for address in (f"/messages/{id}", f"/jobs/{id}", f"/jobs/{id}/progress"):
        check(api.get(address))


def test_a_page_of_another_site_cannot_send_its_forms(api: Client) -> None:
    form = {"destination": "main", "topic": "t", "selection": json.dumps({"all": True})}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        for address in ("/resubmit", "/dead-letters/send-back", "/jobs/x/cancel"):
            refused = api.post(address, data=form, headers=headers)
            assert refused.status_code == 403
            assert "comes from another site" in refused.text


def test_a_form_may_be_as_large_as_any_request(api: Client) -> None:
    ids = json.dumps({"ids": [f"{'x' * 90}{n}" for n in range(7000)]})
    check(api.post("/resubmit-request", data={"destination": "main", "topic": "t", "selection": ids}))
    assert api.post("/resubmit-request", data={"selection": "x" * (1 << 20)}).status_code == 413
    assert api.get("/explore", params={"selection": "x" * 300_000}).status_code == 431


def test_scripts_and_styles_come_from_files_of_ours_only(api: Client) -> None:
    policy = api.get("/").headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    for address in (
        "/",
        "/overview",
        "/explore",
        "/messages/orders_0_0",
        "/resubmit",
        "/jobs",
        "/dead-letters",
    ):
        page = api.get(address).text
        assert " style=" not in page
        assert "<style" not in page
        assert " onclick=" not in page
        assert page.count("<script") == page.count('<script src="/static/')


def test_an_address_that_is_not_there_is_reported_to_a_browser_by_a_page(api: Client) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    for address in ("/nowhere", f"/v1/{EVIL}", "/jobs/x/dance"):
        answer = api.get(address, headers=browser)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "Nothing exists at this address" in answer.text
        assert EVIL not in answer.text
    assert api.get("/nowhere").headers["Content-Type"] == "application/problem+json"


def test_files_of_ours_are_kept_by_browsers_until_they_change(api: Client) -> None:
    [address] = [part for part in api.get("/").text.split('"') if part.startswith("/static/style.css")]
    assert "max-age=31536000" in api.get(address).headers["Cache-Control"]
    assert api.get("/").headers["Cache-Control"] == "no-store"


def test_many_ask_and_one_looks() -> None:
    asked: list[int] = []
    remembered = CachedAnswer(lambda: asked.append(1) or len(asked))
    assert [remembered.get() for _ in range(5)] == [1] * 5


def test_what_goes_wrong_is_reported_and_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Iterator[Any] = iter([OSError("away"), 7])

    def ask() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    remembered = CachedAnswer(ask)
    for _ in range(3):  # who asks again at once makes no other query
        with pytest.raises(OSError, match="away"):
            remembered.get()
    monkeypatch.setattr(remembered, "_until", 0.0)
    assert wait_until(remembered.get, 60, "the answer") == 7
