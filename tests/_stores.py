"""The stores that hold a lake in tests: a disk, and the servers of object stores."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from tests._traits import StoreTrait
from tests.servers.azurite import Azurite
from tests.servers.gcs import GCS
from tests.servers.moto import Moto
from tests.servers.seaweed import Seaweed

__all__ = ["STORES", "Disk", "new_bucket"]


class Disk:
    """Directories of this machine."""

    lacks: ClassVar[Mapping[StoreTrait, str]] = {
        StoreTrait.BUCKETS: "a directory is made when it is needed",
        StoreTrait.CREDENTIALS: "a directory knows no secret",
        StoreTrait.DURABLE: "there is no process to kill",
    }
    config: ClassVar[Mapping[str, str]] = {}

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create_bucket(self, name: str) -> str:
        """The URL of a directory that is not there yet."""
        return f"file://{self._directory}/{name}"


STORES = {"file": Disk, "moto": Moto, "seaweed": Seaweed, "azurite": Azurite, "gcs": GCS}
"""By name, which is that of the fixture that runs its server."""


def new_bucket(store: Any) -> str:
    """The URL of a bucket that no other test uses."""
    return store.create_bucket(f"lake-{uuid.uuid4().hex[:12]}")
