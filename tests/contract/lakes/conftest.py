"""The stores that the contract of lakes applies to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests._stores import STORES, Disk, new_bucket
from tests._traits import apply_to
from transforms.lake import Lake


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A store, whose server runs."""
    return Disk(tmp_path) if request.param == "file" else request.getfixturevalue(request.param)


@pytest.fixture
def lake(store: Any) -> Lake:
    """An empty lake under a prefix of its own."""
    return Lake(f"{new_bucket(store)}/some/prefix", store.config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    apply_to(metafunc, "store", STORES)
