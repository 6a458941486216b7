"""What some backends have and others have not: a contract that needs it applies to those that have it.

A backend names in ``lacks`` each trait that it has not, with the reason. A test, or the class of its subject,
names what it needs by the mark ``needs``; it is not collected for a backend that lacks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import ClassVar, Protocol

import pytest

__all__ = ["BrokerTrait", "Lacking", "StoreTrait", "apply_to"]


class BrokerTrait(Enum):
    """Traits of brokers."""

    POSITIONS = "a reader may begin at any position of a partition"
    DURABLE = "messages outlive the process of the test's server"
    EXTENSION = "an extension in C reads it, and Python where that was not built"


class StoreTrait(Enum):
    """Traits of stores that hold a lake."""

    BUCKETS = "a bucket has to be there before anything is written"
    LISTED = "a list of a bucket that is not there is refused as such"
    CREDENTIALS = "who does not know the secret is refused"
    SHORT_NAMES = "names have a length that they cannot exceed"
    DURABLE = "objects outlive the process of the test's server"


class Lacking(Protocol):
    """A backend of the tests."""

    lacks: ClassVar[Mapping[BrokerTrait, str]] | ClassVar[Mapping[StoreTrait, str]]


def apply_to(metafunc: pytest.Metafunc, fixture: str, backends: Mapping[str, type[Lacking]]) -> None:
    """Collect a test that uses the fixture once for each backend that has what it needs."""
    if fixture in metafunc.fixturenames:
        needed = {trait for mark in metafunc.definition.iter_markers("needs") for trait in mark.args}
        names = [name for name, backend in backends.items() if not needed & backend.lacks.keys()]
        metafunc.parametrize(fixture, names, indirect=True)
