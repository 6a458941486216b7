"""A shard in the hands of a test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from transforms.model import Batch
from transforms.reading.buffers import Limits
from transforms.reading.shard import Ready, Shard
from transforms.reading.source import Source

__all__ = ["DEADLINE", "SOON", "Reading", "ids", "reading", "values"]

DEADLINE = 30.0
"""Seconds that messages may take to come."""
SOON = Limits(messages=10, bytes=2**20, age=0.3)
"""Batches that a test need not wait for."""


class Reading:
    """A shard in use: turns it until enough came, remembering positions as a restriction does."""

    def __init__(self, source: Source, shard: Shard | None = None) -> None:
        self.shard = shard or Shard(source)
        self.ready: list[Ready] = []
        self.at = ""
        self.saved: dict[str, int] = {}

    def turn(self, *, drain: bool = False) -> list[Ready]:
        ready = self.shard.turn(0.2, self.at, self.saved, drain=drain)
        if ready:
            self.at, self.saved = ready[-1].at, {}
        self.ready += ready
        return ready

    def until(self, rows: int) -> Reading:
        deadline = time.monotonic() + DEADLINE
        while len(self.ids) < rows:
            assert time.monotonic() < deadline, f"{len(self.ids)} of {rows} messages came"
            self.turn()
        return self

    def acknowledge(self) -> Reading:
        self.shard.durable([(one.key, one.acknowledgement) for one in self.ready])
        self.turn()
        return self

    @property
    def open_rows(self) -> int:
        return sum(track.buffer.rows for track in self.shard._assignment.tracks.values())

    @property
    def batches(self) -> list[Batch]:
        return [one.batch for one in self.ready if one.batch is not None]

    @property
    def ids(self) -> list[str]:
        return [id for batch in self.batches for id in batch.messages["id"].to_pylist()]


@contextmanager
def reading(source: Source) -> Iterator[Reading]:
    opened = Reading(source)
    try:
        yield opened
    finally:
        opened.shard.close()


def values(start: int, end: int) -> list[dict[str, bytes]]:
    """Messages to produce, whose values are numbers."""
    return [{"value": b"%d" % number} for number in range(start, end)]


def ids(topic: str, start: int, end: int) -> list[str]:
    """The ids of the offsets of partition 0."""
    return [f"{topic}_0_{offset}" for offset in range(start, end)]
