"""The brokers that the contract applies to: one for each module of ``transforms.brokers``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from tests._brokers import (
    SITES,
    Site,
    installed,
)
from tests._traits import apply_to


@pytest.fixture(scope="package")
def sites() -> Iterator[Callable[[str], Site]]:
    """The site of each broker, whose server is started once, by the first test that asks for it."""
    with ExitStack() as running:
        yield cache(lambda name: running.enter_context(installed(name)))


@pytest.fixture
def site(request: pytest.FixtureRequest, sites: Callable[[str], Site]) -> Site:
    return sites(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    apply_to(metafunc, "site", SITES)
