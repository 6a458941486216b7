"""What is shown, to whom and how: hostile messages, empty places, small screens, keyboards, no scripts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from resubmit_api.auth.tokens import digest_of, line_of, new_token
from tests.api.conftest import Site, order
from tests.e2e.conftest import Watched
from tests.e2e.data import HOSTILE
from tests.e2e.place import Place
from tests.servers import free_port
from tests.servers.mongodb import MongoDB
from transforms import metrics

PAGES = ("/", "/explore", "/messages/orders_0_5", "/resubmit", "/jobs", "/dead-letters", "/audit", "/docs")


@pytest.mark.parametrize("offset", range(len(HOSTILE)), ids=list(HOSTILE))
def test_hostile_messages_are_shown_harmlessly(watched: Watched, offset: int) -> None:
    page, address = watched.page, f"/messages/uploads_0_{offset}"
    for view in ("", "?view=text", "?view=hex"):
        page.goto(address + view)
        expect(page.get_by_role("heading", level=1)).to_have_text(f"uploads_0_{offset}")
        assert page.title() == f"Message uploads_0_{offset} · Persistor"
        assert len(page.content()) < 600_000
        assert page.locator("main script, main img, main svg, main b").count() == 0
        assert not re.search(
            "[\u202a-\u202e\u2066-\u2069\u200f\u0007\u001b]", page.locator("main").inner_text()
        )
        watched.check()


def test_a_search_for_hostile_messages_shows_them_harmlessly(watched: Watched) -> None:
    page = watched.page
    page.goto('/explore?selection={"sources": ["uploads"]}')
    expect(page.locator("th.id")).to_have_count(len(HOSTILE))
    assert page.locator("main img, tbody script").count() == 0
    watched.check()


def test_what_is_typed_stays_text(watched: Watched) -> None:
    watched.expected.append("422")
    page, evil = watched.page, '"><script>document.title="taken"</script>'
    page.goto("/explore")
    page.get_by_label("Selection as JSON").fill(evil)
    page.get_by_role("button", name="Search with this JSON").click()
    expect(page.get_by_role("alert")).to_contain_text("not valid JSON")
    expect(page.get_by_label("Selection as JSON")).to_have_value(evil)
    assert page.title() == "Explore · Persistor"


def test_a_payload_is_read_as_json_text_and_hex_and_downloaded(watched: Watched) -> None:
    page = watched.page
    page.goto("/messages/orders_0_5")
    expect(page.locator("pre.json")).to_contain_text('"customer": "customer-')
    page.get_by_role("link", name="Hex").click()
    expect(page.locator("pre.hex")).to_contain_text("00000000  7b 22 6f 72 64 65 72 22")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the payload").click()
    assert Path(download.value.path()).read_bytes().startswith(b'{"order"')


def test_results_go_on_and_bars_narrow_the_search(watched: Watched, place: Place) -> None:
    page = watched.page
    page.goto('/explore?selection={"sources": ["orders"]}')
    expect(page.locator("tbody tr:not(.more)").filter(has=page.locator("th.id"))).to_have_count(50)
    page.get_by_role("link", name="Show more").click()
    expect(page.locator("th.id")).to_have_count(100)
    page.get_by_text("As a table").click()
    bars = page.locator("table.narrow tbody tr")
    count = bars.first.locator("td").inner_text()
    bars.first.get_by_role("link").click()
    expect(page.locator(".summary strong")).to_have_text(count)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_a_phone_and_serves_everybody(
    watch: Callable[..., Watched], place: Place, path: str
) -> None:
    phone = watch(place.url)
    phone.page.set_viewport_size({"width": 390, "height": 844})
    phone.page.goto(path)
    phone.page.wait_for_load_state("networkidle")
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 390
    phone.check()


def test_the_keyboard_reaches_the_content_first_and_adds_a_condition(watched: Watched) -> None:
    page = watched.page
    page.goto("/explore")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.get_by_role("button", name="Add a condition").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Field")).to_have_count(2)
    page.get_by_role("button", name="Remove this condition").last.press("Enter")
    expect(page.get_by_label("Field")).to_have_count(1)
    expect(page.get_by_label("Field")).to_be_focused()


def test_what_refreshes_itself_does_not_take_the_focus_away(watched: Watched) -> None:
    page = watched.page
    page.clock.install()
    page.goto("/")
    link = page.get_by_role("link", name="orders", exact=True)
    link.focus()
    page.clock.fast_forward(6_000)
    page.wait_for_load_state("networkidle")
    expect(link).to_be_focused()
    page.get_by_role("link", name="Overview").focus()
    with page.expect_response("**/overview"):
        page.clock.fast_forward(6_000)


def test_without_scripts_a_search_works(watch: Callable[..., Watched], place: Place) -> None:
    page = watch(place.url, java_script_enabled=False).page
    page.goto("/explore")
    page.get_by_label("telemetry", exact=True).check()
    page.get_by_role("button", name="any time").click()
    expect(page.get_by_label("Selection as JSON")).to_have_value('{\n  "sources": [\n    "telemetry"\n  ]\n}')
    expect(page.locator("th.id").first).to_contain_text("telemetry_")


def test_an_empty_place_teaches_what_to_do(watch: Callable[..., Watched], site: Site) -> None:
    with site.serve({"main": "nats://127.0.0.1:1"}) as client:
        empty = watch(client.url)
        for path, taught in (
            ("/", "persistor persist --source"),
            ("/explore", "No messages match"),
            ("/jobs", "No resubmissions yet"),
            ("/dead-letters", "persist --dead_letter"),
        ):
            empty.page.goto(path)
            expect(empty.page.locator("main")).to_contain_text(taught)
            empty.check()
        empty.leave()


def test_what_is_not_there_is_said_in_words(watched: Watched) -> None:
    watched.expected.append("404")
    watched.page.goto("/messages/nothing_0_0")
    expect(watched.page.locator("main")).to_contain_text("No message with this id is indexed.")
    watched.check()


def test_the_lag_is_what_persist_reports(watch: Callable[..., Watched], site: Site) -> None:
    site.archive(order(0))
    port = free_port()
    metrics.LAG.labels("orders").set(1284)
    metrics.serve(port, "127.0.0.1")
    addresses = [f"http://127.0.0.1:{port}/metrics", f"http://127.0.0.1:{free_port()}/metrics"]
    with site.serve({"main": "nats://127.0.0.1:1"}, metrics=tuple(addresses)) as client:
        shown = watch(client.url)
        shown.page.goto("/")
        expect(shown.page.get_by_role("row", name="orders")).to_contain_text("1,284")
        expect(shown.page.locator(".note.warning")).to_contain_text(f"{addresses[1]} does not answer")
        shown.check()
        shown.leave()


def test_who_may_only_look_logs_in_and_cannot_send(watch: Callable[..., Watched], site: Site) -> None:
    site.archive(order(0))
    token, tokens = new_token(), site.directory / "tokens.yaml"
    tokens.write_text(line_of("alice", "viewer", digest_of(token), [], []))
    with site.serve({"main": "nats://127.0.0.1:1"}, tokens=str(tokens)) as client:
        shown = watch(client.url)
        shown.expected += ["401", "403"]
        page = shown.page
        page.goto("/messages/orders_0_0")
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_have_text("The token is invalid or was revoked.")
        shown.check()
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("orders_0_0")
        page.get_by_text("With curl").first.click()
        expect(page.locator("code", has_text="curl").first).to_contain_text("Bearer $PERSISTOR_TOKEN")
        page.goto("/resubmit")
        expect(page.locator("main")).to_contain_text("This needs the role operator.")
        shown.check()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
        shown.leave()


def test_a_silent_service_is_announced_but_unchanged_figures_are_not(
    watch: Callable[..., Watched], site: Site
) -> None:
    site.archive(order(0))
    with site.serve({"main": "nats://127.0.0.1:1"}) as client:
        shown = watch(client.url)
        shown.expected += ["ERR_CONNECTION_REFUSED", "htmx:sendError", "htmx:afterRequest"]
        page = shown.page
        page.goto("/")
        expect(page.get_by_role("row", name="orders")).to_be_visible()
        expect(page.locator("#lost")).to_be_hidden()
        page.route("**/overview", lambda route: route.abort("connectionrefused"))
        expect(page.locator("#lost")).to_have_text(re.compile("does not answer"))
        shown.check()
        page.unroute("**/overview")
        expect(page.locator("#lost")).to_be_hidden()
        shown.leave()


def test_while_the_index_is_away_the_page_says_so_and_comes_back(
    watch: Callable[..., Watched], site: Site, mongodb: MongoDB
) -> None:
    with site.serve({"main": "nats://127.0.0.1:1"}, index=f"{mongodb.url}_pages") as client:
        shown = watch(client.url)
        shown.expected.append("503")
        mongodb.pause()
        try:
            shown.page.goto("/")
            expect(shown.page.get_by_role("alert")).to_contain_text("does not answer", timeout=60_000)
        finally:
            mongodb.resume()
        expect(shown.page.locator("main")).to_contain_text("Nothing is archived yet", timeout=60_000)
        shown.leave()
