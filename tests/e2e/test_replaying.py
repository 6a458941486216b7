"""From finding messages to seeing them arrive, as somebody at the browser does it."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

from playwright.sync_api import Page, Route, expect

from tests._archive import archive
from tests._messages import table
from tests.api.conftest import order, tamper
from tests.e2e.conftest import Watched
from tests.e2e.place import Place
from tests.servers import wait_until


def an_hour(place: Place) -> tuple[str, str]:
    now = datetime.fromtimestamp(place.now / 1_000_000, timezone.utc)
    return f"{now - timedelta(hours=2):%Y-%m-%d %H:%M}", f"{now - timedelta(hours=1):%Y-%m-%d %H:%M}"


def make_plan(page: Page, selection: dict[str, object], topic: str) -> None:
    page.goto("/resubmit")
    page.get_by_role("textbox", name="What").fill(json.dumps(selection))
    page.get_by_label("Topic", exact=True).fill(topic)
    page.get_by_role("button", name="Make the plan").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Planned")


def test_an_hour_of_one_version_is_found_planned_and_sent(watched: Watched, place: Place) -> None:
    page, (start, end) = watched.page, an_hour(place)
    page.goto("/explore")
    page.get_by_label("orders", exact=True).check()
    page.get_by_label("from", exact=True).fill(start)
    page.get_by_label("before", exact=True).fill(end)
    page.get_by_label("Field").fill("attributes.version")
    page.get_by_label("Value").fill("2")
    wanted = {
        "sources": ["orders"],
        "published_from": f"{start.replace(' ', 'T')}Z",
        "published_to": f"{end.replace(' ', 'T')}Z",
        "where": [{"attributes.version": "2"}],
    }
    expect(page.get_by_label("Selection as JSON")).to_have_value(json.dumps(wanted, indent=2))
    page.get_by_role("button", name="Search", exact=True).click()
    count = place.matching(wanted)
    assert count > 50
    expect(page.locator(".summary strong")).to_have_text(f"{count:,}")
    watched.check()

    page.get_by_role("link", name="Resubmit these …").click()
    page.get_by_label("Topic", exact=True).fill("orders-replay")
    page.get_by_text("With curl").click()
    expect(page.locator("#request-part code")).to_contain_text('"topic": "orders-replay"')
    watched.check()
    page.get_by_role("button", name="Make the plan").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(
        re.compile("Plan for orders-replay Planned"), use_inner_text=True
    )
    expect(page.locator(".figures dd").first).to_have_text(f"{count:,}")
    assert len(place.arrived("orders-replay")) == 0
    watched.check()

    page.get_by_role("button", name=f"Send {count:,} messages").click()
    expect(page.locator("h1 .state")).to_have_text("Completed", timeout=60_000)
    expect(page.locator("#progress .progress")).to_contain_text(f"{count:,} of {count:,} sent")
    assert len(place.arrived("orders-replay")) == count
    watched.check()


def test_a_job_is_paused_given_another_pace_resumed_and_cancelled(watched: Watched, place: Place) -> None:
    page = watched.page
    make_plan(page, {"sources": ["orders"]}, "slow-replay")
    expect(page.locator("#estimate")).to_contain_text("less than a second")
    page.get_by_label("Maximum messages per second").fill("50")
    page.get_by_label("Maximum bytes per second").fill("5 MB")
    expect(page.locator("#estimate")).to_contain_text(
        "about 2 min, at most 50 messages and 5.0 MB per second"
    )
    page.locator("#estimate").get_by_text("With curl").click()
    expect(page.locator("#estimate code")).to_contain_text('"bytes_per_second": 5000000.0')
    page.get_by_role("button", name="Send 6,000 messages").click()
    wait_until(lambda: len(place.arrived("slow-replay")), 60, "the first messages to arrive")
    watched.check()
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("h1 .state")).to_have_text("Paused")
    expect(page.locator("#announced")).to_have_text("The job is paused.")
    watched.check()

    page.get_by_role("slider").fill("2.3")
    expect(page.get_by_label("Messages per second", exact=True)).to_have_value("200")
    expect(page.get_by_label("Bytes per second", exact=True)).to_have_value("5,000,000")
    page.get_by_label("Bytes per second", exact=True).fill("")
    page.get_by_role("button", name="Set rate limit").click()
    expect(page.locator("#progress")).to_contain_text("200 per second")
    expect(page.locator("#progress")).not_to_contain_text("MB")
    sent = len(place.arrived("slow-replay"))
    page.get_by_role("button", name="Resume").click()
    wait_until(lambda: len(place.arrived("slow-replay")) > sent, 60, "the job to go on")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1 .state")).to_have_text("Cancelled", timeout=60_000)
    expect(page.locator("main")).to_contain_text("messages were not sent.")
    assert len(place.arrived("slow-replay")) < 6000
    watched.check()

    page.get_by_role("link", name="Run again …").click()
    expect(page.get_by_label("Topic", exact=True)).to_have_value("slow-replay")
    page.goto("/jobs")
    expect(page.locator("tbody tr").first).to_contain_text("Cancelled")
    watched.check()


def test_an_answer_about_a_state_that_is_over_is_let_go(watched: Watched, place: Place) -> None:
    page, held = watched.page, list[Route]()
    make_plan(page, {"sources": ["orders"]}, "slow-replay")
    page.get_by_label("Maximum messages per second").fill("50")
    page.get_by_role("button", name="Send 6,000 messages").click()
    expect(page.locator("h1 .state")).to_have_text("Running")
    page.route("**/progress?*", lambda route: held.append(route))  # noqa: PLW0108 - needs a function's attributes
    wait_until(lambda: page.wait_for_timeout(100) or held, 60, "a look at the progress")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("h1 .state")).to_have_text("Paused")
    with page.expect_response("**/progress?*"):
        page.unroute("**/progress?*")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1 .state")).to_have_text("Cancelled", timeout=60_000)


def test_dead_letters_go_back_to_where_they_came_from_as_they_were(watched: Watched, place: Place) -> None:
    page = watched.page
    page.goto("/dead-letters")
    watched.check()
    kind = page.locator(".letters", has_text="20 from orders")
    expect(kind).to_contain_text("The header version is not a number.")
    kind.get_by_role("button", name="Send 20 back").click()
    expect(page.locator("h1 .state")).to_have_text("Completed", timeout=60_000)
    arrived = {bytes(message.value()): message for message in place.arrived("orders")}
    original = place.client.get("/v1/messages/dead-letters_0_0").json()
    sent = arrived[place.client.get("/v1/messages/dead-letters_0_0/payload").content]
    assert len(arrived) == 20
    assert sent.key().decode() == original["key"]
    assert sent.headers() == [("version", b"2"), ("content-type", b"application/json")]
    watched.check()


def test_failed_messages_are_shown_and_retried(watched: Watched, place: Place) -> None:
    page = watched.page
    recent = place.now - 60_000_000
    rows = [order(offset, publish_time=recent + offset) for offset in range(3)]
    [location] = archive(place.site.lake, place.site.index, table(*rows), source="damaged")
    file = Path(location.removeprefix("file://"))
    intact = file.read_bytes()
    tamper(file, table(*rows[:1], order(1, data=b"another"), *rows[2:]))
    make_plan(page, {"sources": ["damaged"]}, "telemetry")
    page.get_by_role("button", name="Send 3 messages").click()
    expect(page.locator("h1 .state")).to_have_text("Failed", timeout=60_000)
    count = page.get_by_role("button", name=re.compile("^Retry [0-9] failed"))
    expect(page.get_by_role("region", name="Not sent")).to_contain_text("damaged_0_1")
    watched.check()
    file.write_bytes(intact)
    count.click()
    expect(page.locator("main")).to_contain_text("It retries the failed messages of an earlier job.")
    expect(page.locator("h1 .state")).to_have_text("Completed", timeout=60_000)
    assert sorted(message.value() for message in place.arrived("telemetry")) == [
        b"order 0",
        b"order 1",
        b"order 2",
    ]


def test_a_plan_says_what_speaks_against_it_and_cannot_be_run(watched: Watched, place: Place) -> None:
    page = watched.page
    watched.expected.append("422")
    page.goto("/resubmit")
    page.get_by_role("textbox", name="What").fill('{"source": ["orders"]}')
    page.get_by_label("Topic", exact=True).fill("no topic")
    page.get_by_role("button", name="Make the plan").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("selection.source: Extra inputs are not permitted.")
    expect(alert).to_contain_text("topic: write a topic's name")
    expect(page.get_by_label("Topic", exact=True)).to_have_value("no topic")
    watched.check()
    make_plan(page, {"sources": ["uploads"]}, "orders-replay")
    expect(page.get_by_text("This plan cannot run")).to_be_visible()
    expect(page.get_by_role("button", name="Discard the plan")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Send"))).to_have_count(0)
    watched.check()
    page.get_by_role("link", name="Edit …").click()
    expect(page.get_by_label("Topic", exact=True)).to_have_value("orders-replay")
