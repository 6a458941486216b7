"""A broker of files: ``toybroker:///DIRECTORY/TOPIC``, a line of hexadecimal digits a message."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from transforms.brokers import (
    NO_MARKS,
    Acknowledgement,
    Destination,
    Fetched,
    Mark,
    Partition,
    PublishOptions,
    Undelivered,
    Unreadable,
)
from transforms.errors import ConfigurationError
from transforms.model import MESSAGE_SCHEMA, Trait

__all__ = ["open_publisher", "open_reader"]


def open_reader(
    url: str,
    config: Mapping[str, str],
    *,
    shard: tuple[int, int] = (0, 1),
    group: str,
    exclude: Sequence[str] = (),
    memory: int = 0,
) -> ToyReader:
    return ToyReader(_place(url, config))


def open_publisher(url: str, config: Mapping[str, str], *, name: str | None = None) -> ToyPublisher:
    return ToyPublisher(_place(url, config))


def _place(url: str, config: Mapping[str, str]) -> Path:
    if config:
        raise ConfigurationError(f"a toy has no setting {min(config)}")
    return Path(url.removeprefix("toybroker://"))


class ToyReader:
    positions = True
    way = ""
    reads_freely = True

    def __init__(self, place: Path) -> None:
        self._partition = Partition(place.name, 0)
        self._place, self._position = place, 0

    def identity(self) -> str:
        return str(self._place.parent)

    def discover(self) -> Mapping[Partition, str]:
        return {self._partition: ""} if self._place.exists() else {}

    def incarnations(self, partitions: Collection[Partition]) -> Mapping[Partition, str]:
        return self.discover()

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, tuple[int, str]]:
        return {}

    def earliest(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        return dict.fromkeys(partitions, 0)

    def assign(self, positions: Mapping[Partition, int], marks: Mapping[Partition, Mark] = NO_MARKS) -> None:
        self._position = positions.get(self._partition, self._position)

    def poll(self, seconds: float) -> list[Fetched]:
        lines = self._place.read_text().splitlines()[self._position :]
        rows = [
            {"topic": self._place.name, "partition": 0, "offset": offset, "headers": [], "data": data}
            for offset, data in enumerate(map(bytes.fromhex, lines), self._position)
        ]
        self._position += len(rows)
        table = pa.Table.from_pylist(rows, MESSAGE_SCHEMA)
        return [Fetched(self._partition, table, self._position)] if rows else []

    def unreadable(self) -> Sequence[Unreadable]:
        return ()

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """The lake's claims know what was archived."""

    def release(self, receipts: Sequence[Any]) -> None:
        """There are no receipts."""

    def retention(self, partition: Partition) -> float | None:
        return None

    def examine(self, partition: Partition) -> tuple[list[str], list[str]]:
        return [], ["it is a toy"]

    def lag(self) -> Mapping[Partition, int]:
        return {}

    def close(self) -> None:
        """Nothing is open."""


class ToyPublisher:
    left_out: frozenset[str] = frozenset()

    def __init__(self, place: Path) -> None:
        self._place, self._sent = place, list[bytes]()

    def destination(self) -> Destination:
        return Destination(self._place.name, ~Trait(0), partitions=1, original_time=True)

    def begin(self) -> int | None:
        self._sent.clear()
        return None

    def send(self, messages: pa.Table, options: PublishOptions) -> None:
        self._sent += messages["data"].to_pylist()

    def commit(self, done: int) -> list[Undelivered]:
        with self._place.open("a") as file:
            file.writelines(f"{data.hex()}\n" for data in self._sent)
        self._sent.clear()
        return []

    def finish(self) -> None:
        """Nothing is kept of a lane."""

    def close(self) -> None:
        """Nothing is open."""
