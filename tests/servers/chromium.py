"""Chromium, driven by Playwright, and axe-core, which finds what keeps people from using a page."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from playwright.sync_api import Browser, sync_playwright

from tests.servers import Unavailable, fetch_once, run, tool

__all__ = ["Chromium"]

_AXE = "4.14.1"
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_QUIET = (
    "--no-sandbox",  # which root needs; the pages are our own
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


class Chromium:
    """The browser of the system; Playwright's own would be another download."""

    name: ClassVar[str] = "chromium"

    @classmethod
    def install(cls) -> None:
        """Find the program and fetch axe-core with npm.

        Raises:
            Unavailable: this machine has no Chromium, or no npm.
        """
        cls.program()
        cls.axe()

    @classmethod
    def program(cls) -> str:
        """Where the browser is."""
        for name in _PROGRAMS:
            if path := shutil.which(name):
                return path
        raise Unavailable("chromium is not on this machine", "sudo apt-get install chromium")

    @classmethod
    def axe(cls) -> str:
        """The script of axe-core."""
        return (fetch_once(f"axe-core-{_AXE}", _fetch) / "node_modules/axe-core/axe.min.js").read_text()

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Browser]:
        """A browser for the block."""
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=cls.program(), args=list(_QUIET))
            try:
                yield browser
            finally:
                browser.close()


def _fetch(target: Path) -> None:
    npm = tool("npm", "sudo apt-get install nodejs npm")
    run([npm, "install", "--silent", "--no-audit", "--no-fund", f"axe-core@{_AXE}"], cwd=target)
