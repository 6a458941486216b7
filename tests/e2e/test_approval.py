"""Approval and queue in a browser, without scripts: plain forms are enough."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from playwright.sync_api import Page, expect

from resubmit_api.auth.tokens import digest_of
from tests.api.conftest import Site, Streams, order
from tests.e2e.conftest import Watched
from tests.servers.nats import Nats

SELECTION = '{"sources": ["orders"]}'


def logged_in(page: Page, name: str) -> Page:
    page.goto("/login")
    page.get_by_label("Token").fill(f"t-{name}")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    return page


def plan(page: Page, topic: str, note: str) -> str:
    page.goto("/resubmit")
    page.locator("textarea[name=selection]").fill(SELECTION)
    page.get_by_label("Topic", exact=True).fill(topic)
    page.get_by_label("Note or ticket").fill(note)
    page.get_by_role("button", name="Make the plan").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Plan for")
    return page.url


def test_a_second_person_approves_and_what_has_no_place_is_queued(
    watch: Callable[..., Watched], site: Site, nats: Nats
) -> None:
    site.archive(*(order(n) for n in range(500)))
    with ThreadPoolExecutor(1) as aside:  # the browser has the event loop of this thread
        topic = aside.submit(Streams(nats.url).create, "approved").result()
    tokens = site.directory / "tokens.yaml"
    lines = [{"name": name, "role": "operator", "sha256": digest_of(f"t-{name}")} for name in ("ann", "bob")]
    tokens.write_text(json.dumps(lines))
    settings: dict[str, Any] = {"tokens": str(tokens), "approval": ("main",), "jobs_at_once": 1}
    with site.serve({"main": nats.url}, inline_limit=10, **settings) as client:
        first, second = (watch(client.url, java_script_enabled=False) for _ in range(2))
        ann, bob = logged_in(first.page, "ann"), logged_in(second.page, "bob")
        addresses = [plan(ann, topic, f"TICKET-{number}") for number in range(2)]
        expect(ann.locator("main")).to_contain_text("A second person has to approve this plan")
        expect(ann.get_by_role("button", name="Approve")).to_have_count(0)
        expect(ann.locator("#run")).to_have_count(0)
        for address in addresses:
            bob.goto(address)
            bob.get_by_role("button", name="Approve").click()
            expect(bob.locator("main")).to_contain_text("Approved by bob")
        for address in addresses:
            ann.goto(address)
            ann.get_by_label("Maximum messages per second").fill("5")
            ann.get_by_role("button", name="Send 500 messages").click()
            expect(ann.get_by_role("heading", level=1)).to_contain_text("Resubmission to")
        expect(_reloaded(ann, "Place 1 in the queue")).to_contain_text("has no free place")
        ann.goto("/jobs?state=QUEUED&requested_by=ann")
        expect(ann.locator("main")).to_contain_text("TICKET-1")
        expect(ann.locator("main")).not_to_contain_text("TICKET-0")
        for address in addresses[::-1]:
            ann.goto(address)
            ann.get_by_role("button", name="Cancel").click()
        first.leave()
        second.leave()


def _reloaded(page: Page, text: str) -> Any:
    """The page, loaded again until it holds a text: without scripts it does not change by itself."""
    for _ in range(60):
        page.reload()
        if text in page.locator("main").inner_text():
            break
    return page.locator("main")
