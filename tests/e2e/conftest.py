"""A browser on the pages. A test fails on errors of scripts, on the console, and on what axe-core finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.api.conftest import Site
from tests.conftest import running
from tests.e2e.place import Place, open_place
from tests.servers import Unavailable
from tests.servers.chromium import Chromium
from tests.servers.kafka import Kafka

expect.set_options(timeout=20_000)

_AXE = """async (options) => (await axe.run(options)).violations.map(
    ({id, help, nodes}) => `${id}: ${help} ${nodes.map((node) => node.html.slice(0, 200)).join(" ")}`)"""


@dataclass
class Watched:
    """A page and what went wrong on it; ``expected`` are parts of errors that a test provokes."""

    page: Page
    axe: str
    wrong: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.page.on("dialog", lambda dialog: dialog.accept())

    def check(self) -> None:
        """Nothing on the page keeps anybody from using it, be it light or dark."""
        self.page.evaluate(self.axe)
        assert self.page.evaluate(_AXE, {}) == []
        self.page.emulate_media(color_scheme="dark")  # in which nothing but colours differs
        assert self.page.evaluate(_AXE, {"runOnly": ["color-contrast"]}) == []
        self.page.emulate_media(color_scheme="light")

    def leave(self) -> None:
        """Be done with the service before it ends."""
        self.page.wait_for_load_state("networkidle")
        self.page.goto("about:blank")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not any(part in message.text for part in self.expected):
            self.wrong.append(f"console: {message.text} at {message.location}")


@pytest.fixture(scope="module")  # while it runs there is an event loop, which other tests cannot have
def browser() -> Iterator[Browser]:
    try:
        Chromium.install()
    except Unavailable as missing:
        pytest.skip(str(missing))
    with Chromium.running() as running:
        yield running


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    for kafka in running(Kafka):  # its own: the topics have the names that users see
        with open_place(tmp_path_factory.mktemp("pages"), kafka) as opened:
            yield opened


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A place without any message."""
    made = Site.at(tmp_path)
    yield made
    made.index.close()


@pytest.fixture
def watch(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Opens pages, with the options of a browser's context, and fails the test by what went wrong on them."""
    opened: list[Watched] = []

    def open_page(url: str, **options: Any) -> Watched:
        context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 900}, **options)
        watched = Watched(context.new_page(), Chromium.axe())
        watched.watch()
        opened.append(watched)
        return watched

    yield open_page
    for watched in opened:
        watched.page.context.close()
    assert [wrong for watched in opened for wrong in watched.wrong] == []


@pytest.fixture
def watched(watch: Callable[..., Watched], place: Place) -> Watched:
    """A page of the place that all tests share."""
    return watch(place.url)


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page
