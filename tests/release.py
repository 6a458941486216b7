"""What an earlier release has stored, as its users would have it in front of them today."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.cli import main
from tests.integration.harness import Archive
from tests.servers.kafka import Kafka
from tests.servers.nats import Nats
from transforms import registry
from transforms.lake import Lake
from transforms.selection import Selection

__all__ = ["DATA", "KAFKA", "LAKE", "NATS", "Release"]

DATA = Path(__file__).parent / "data" / "release-0.1.0"
LAKE, KAFKA, NATS = "file://${env:RELEASE_LAKE}", "kafka://${env:RELEASE_KAFKA}", "nats://${env:RELEASE_NATS}"
_FORMATS = {"release": "parquet", "release-avro": "avro", "release-jsonl": "jsonl"}
# What the release kept is older than servers keep such things by default.
_KEEP = "offsets.retention.minutes=2147483647\n"


class Release:
    """A copy of everything, in a directory of its own.

    Attributes:
        expected: what the release said of it.
        sources: their formats by name; each has ``expected["messages"]`` messages.
    """

    sources = _FORMATS

    def __init__(self, place: Path, patch: pytest.MonkeyPatch) -> None:
        self.expected: dict[str, Any] = json.loads((DATA / "expected.json").read_text())
        shutil.copytree(DATA / "lake", place / "lake")
        with zipfile.ZipFile(DATA / "servers.zip") as archive:
            archive.extractall(place)
        self.place, self.index_url = place, f"sqlite://{place}/index.db"
        self._patch = patch
        patch.setenv("RELEASE_LAKE", f"{place}/lake")
        self.lake = Lake(LAKE)

    def kafka(self) -> Kafka:
        """The broker with what it held; to be started."""
        kafka = Kafka(self.place / "kafka")
        kafka.settings, kafka.cluster = _KEEP, self.expected["cluster"]
        self._patch.setenv("RELEASE_KAFKA", kafka.bootstrap)
        return kafka

    def nats(self) -> Nats:
        """The broker with what it held; to be started."""
        nats = Nats(self.place / "nats")
        self._patch.setenv("RELEASE_NATS", f"127.0.0.1:{nats.port}")
        return nats

    def archive(self, format: str) -> Archive:
        """Lake and index; files are read in one format."""
        return Archive(self.lake, self.index_url, format)

    def entries(self, index_url: str | None = None, columns: Sequence[str] = ("id", "checksum")) -> pa.Table:
        """All entries of an index, by their ids."""
        url = index_url or self.index_url
        with closing(registry.index(url).open(url)) as index:
            found = pa.concat_tables(index.select(Selection(all=True), list(columns)))
        return found.select(list(columns)).sort_by("id")

    def command(self, name: str, *words: str, index_url: str | None = None) -> int:
        """Run a command on lake and index; its exit code."""
        lake = [] if name == "jobs" else ["--lake", LAKE]
        return main([name, "--index", index_url or self.index_url, *lake, *words])

    def rows(self) -> pa.Table:
        """All messages of all files."""
        paths = sorted(path for path, _ in self.lake.list() if not path.startswith("_"))
        return pa.concat_tables(
            registry.format_of(os.path.splitext(path)[1][1:]).decode(self.lake.get(path))  # noqa: PTH122
            for path in paths
        )
