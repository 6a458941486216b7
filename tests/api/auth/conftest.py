"""A service that asks for tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from apiflask import APIFlask

from resubmit_api.app import close_app, create_app
from tests.api.auth._auth import (
    KEY,
    LINES,
    MISSING,
    write_tokens,
)
from tests.api.conftest import Client, Site, order


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
