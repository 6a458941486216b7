"""A server of NATS of these tests alone, which some of them kill."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests._brokers import NatsSite, installed


@pytest.fixture(scope="package")
def nats() -> Iterator[NatsSite]:
    with installed("nats") as site:
        assert isinstance(site, NatsSite)
        yield site


@pytest.fixture
def stem() -> str:
    return f"s{uuid.uuid4().hex[:10]}"
