"""``python -m tests.e2e.screenshots DIRECTORY``: pictures of the pages for the documentation."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from tests.e2e.place import Place, open_place
from tests.servers import free_port, wait_until
from tests.servers.chromium import Chromium
from tests.servers.kafka import Kafka
from transforms import metrics

_DESKTOP, _PHONE = (1280, 860), (390, 844)
_VERSION = {"sources": ["orders"], "where": [{"attributes.version": "2"}]}


def main(directory: Path) -> int:
    """Make all pictures anew."""
    directory.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="persistor-") as data,
        Kafka() as kafka,
        open_place(Path(data), kafka, metrics=(_metrics(),)) as place,
        Chromium.running() as browser,
    ):
        _past(place)
        page = _opened(browser, place, _DESKTOP)
        _of_messages(page, directory)
        _of_a_job(page, place, directory)
        for name, path in (
            ("overview", "/"),
            ("jobs", "/jobs"),
            ("dead-letters", "/dead-letters"),
            ("audit", "/audit"),
        ):
            _shoot(page, directory / f"{name}.png", path)
        _shoot(page, directory / "api.png", "/docs")
        _shoot(_opened(browser, place, _DESKTOP, "dark"), directory / "overview-dark.png", "/")
        _shoot(_opened(browser, place, _PHONE), directory / "phone.png", "/explore")
    return 0


def _metrics() -> str:
    """What persist would tell, by its own metrics."""
    port = free_port()
    for source, lag in (("orders", 1284), ("telemetry", 0), ("uploads", 0), ("dead-letters", 0)):
        metrics.LAG.labels(source).set(lag)
    metrics.serve(port, "127.0.0.1")
    return f"http://127.0.0.1:{port}/metrics"


def _past(place: Place) -> None:
    """Jobs that ended before."""
    _ask(place, {"selection": {"ids": ["orders_0_41", "orders_1_7"]}, "topic": "orders-replay"})
    slow = _ask(
        place,
        {
            "selection": {"sources": ["telemetry"]},
            "topic": "slow-replay",
            "rate": {"messages_per_second": 200},
        },
    )
    _until(place, slow, lambda row: row["progress"]["published"] > 300)
    place.client.post(f"/v1/resubmissions/{slow}/cancel", json={}).raise_for_status()
    _until(place, slow, lambda row: row["state"] == "CANCELLED")


def _of_messages(page: Page, directory: Path) -> None:
    _shoot(page, directory / "explore.png", f"/explore?selection={json.dumps(_VERSION)}")
    _shoot(page, directory / "message.png", "/messages/orders_0_41")
    _shoot(page, directory / "hostile.png", "/messages/uploads_0_1")


def _of_a_job(page: Page, place: Place, directory: Path) -> None:
    page.goto(f"/resubmit?selection={json.dumps(_VERSION)}&topic=orders-replay")
    page.get_by_text("With curl").click()
    _shoot(page, directory / "resubmit.png")
    page.get_by_role("button", name="Make the plan").click()
    page.get_by_role("button", name="Discard the plan").wait_for()
    _shoot(page, directory / "plan.png")
    page.get_by_label("Maximum messages per second").fill("150")
    page.locator("button.primary", has_text="Send").click()
    job = page.url.rsplit("/", 1)[1]
    _until(place, job, lambda row: row["progress"]["published"] > 1200)
    page.locator("#progress progress").wait_for()
    page.wait_for_timeout(1500)
    _shoot(page, directory / "job.png")


def _ask(place: Place, body: dict[str, Any]) -> str:
    answer = place.client.post("/v1/resubmissions", json={"destination": "main", **body})
    answer.raise_for_status()
    return str(answer.json()["id"])


def _until(place: Place, job: str, true: Any) -> None:
    wait_until(lambda: true(place.client.get(f"/v1/resubmissions/{job}").json()), 120, f"job {job}")


def _opened(browser: Browser, place: Place, size: tuple[int, int], scheme: Any = "light") -> Page:
    viewport: Any = {"width": size[0], "height": size[1]}
    context = browser.new_context(
        base_url=place.url, viewport=viewport, color_scheme=scheme, device_scale_factor=1.5
    )
    return context.new_page()


def _shoot(page: Page, file: Path, path: str | None = None) -> None:
    if path is not None:
        page.goto(path)
        page.wait_for_load_state("networkidle")
    page.screenshot(path=file)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
