"""What the tests of settings share."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.settings.maintenance import ExpireSettings, RebuildSettings
from pipelines.settings.parsing import parse
from pipelines.settings.replay import ResubmitSettings
from pipelines.settings.streaming import IndexSettings, PersistSettings
from resubmit_api.settings import ApiSettings, TokenSettings
from transforms.errors import ConfigurationError

KINDS = [
    PersistSettings,
    IndexSettings,
    ResubmitSettings,
    RebuildSettings,
    ExpireSettings,
    ApiSettings,
    TokenSettings,
]


PERSIST = ["--source", "kafka://h:9092/orders", "--lake", "file:///lake", "--index", "sqlite:///i.db"]


RESUBMIT = ["--index", "sqlite:///i.db", "--lake", "file:///lake"]


SELECTION = '{"sources": ["orders"]}'


def here(place: Path) -> list[str]:
    """An index and a lake that are there."""
    (place / "i.db").touch()
    return [f"--index=sqlite://{place}/i.db", f"--lake=file://{place}"]


def problems(kind: type, *argv: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse(kind, argv)
    return caught.value.problems
