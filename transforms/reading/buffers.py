"""Messages of one partition that were read and are not yet in a batch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.brokers import Fetched
from transforms.entries import sizes
from transforms.model import MESSAGE_SCHEMA

__all__ = ["Buffer", "Limits", "oldest"]


@dataclass(frozen=True)
class Limits:
    """What closes a batch, whichever comes first: messages, bytes, or seconds since it was opened."""

    messages: int = 10_000
    bytes: int = 64 * 2**20
    age: float = 30.0


@dataclass
class _Chunk:
    messages: pa.Table
    sizes: npt.NDArray[np.int64]
    receipts: Sequence[Any]
    arrived: float

    def part(self, start: int, end: int) -> _Chunk:
        messages = self.messages.slice(start, end - start)
        return _Chunk(messages, self.sizes[start:end], self.receipts[start:end], self.arrived)


class Buffer:
    """A queue of messages with the position behind each; rows leave it in front only."""

    def __init__(self, position: int) -> None:
        """Begin empty at ``position``."""
        self.end = position
        self.rows = 0
        self.bytes = 0
        self._chunks: deque[_Chunk] = deque()

    def add(self, fetched: Fetched) -> None:
        """Append what was read; ``end`` becomes the position behind it."""
        self.end = fetched.position
        if not len(fetched.messages):
            return
        lengths = sizes(fetched.messages).to_numpy()
        self._append(_Chunk(fetched.messages, lengths, fetched.receipts, time.monotonic()))

    def closed(self, limits: Limits) -> tuple[int, str] | None:
        """Rows of the batch that a limit closes now and the limit's name, None where none does."""
        rows = min(self.rows, limits.messages)
        if self.bytes >= limits.bytes:
            fitting = self._rows_within(limits.bytes)
            if fitting <= rows:
                return fitting, "bytes"
        if rows == limits.messages:
            return rows, "count"
        if self.rows and time.monotonic() - self._chunks[0].arrived >= limits.age:
            return self.rows, "age"
        return None

    def rows_below(self, position: int) -> int:
        """How many rows in front lie below a position."""
        rows = 0
        for chunk in self._chunks:
            below = int(np.searchsorted(chunk.messages["offset"].to_numpy(), position))
            rows += below
            if below < len(chunk.sizes):
                break
        return rows

    def peek(self, rows: int) -> tuple[pa.Table, list[Any]]:
        """The first rows and their receipts, left in place."""
        chunks = list(self._front(rows))
        tables = [chunk.messages for chunk in chunks]
        receipts = [receipt for chunk in chunks for receipt in chunk.receipts]
        return pa.concat_tables([MESSAGE_SCHEMA.empty_table(), *tables]), receipts

    def pop(self, rows: int) -> None:
        """Remove the first rows."""
        while rows:
            chunk = self._chunks[0]
            taken = min(rows, len(chunk.sizes))
            self.bytes -= int(chunk.sizes[:taken].sum())
            self.rows -= taken
            rows -= taken
            self._chunks.popleft()
            if taken < len(chunk.sizes):
                self._chunks.appendleft(chunk.part(taken, len(chunk.sizes)))

    def truncate(self, position: int) -> None:
        """Forget the rows from a position on."""
        kept = list(self._front(self.rows_below(position)))
        self._chunks.clear()
        self.rows = self.bytes = 0
        for chunk in kept:
            self._append(chunk)
        self.end = min(self.end, position)

    def oldest(self) -> list[float]:
        """The earliest publish time in front, in seconds since 1970; nothing where it is unknown."""
        time = oldest(self._chunks[0].messages) if self._chunks else None
        return [] if time is None else [time]

    def _append(self, chunk: _Chunk) -> None:
        self._chunks.append(chunk)
        self.rows += len(chunk.sizes)
        self.bytes += int(chunk.sizes.sum())

    def _front(self, rows: int) -> Iterator[_Chunk]:
        for chunk in self._chunks:
            if not rows:
                return
            taken = min(rows, len(chunk.sizes))
            rows -= taken
            yield chunk.part(0, taken)

    def _rows_within(self, limit: int) -> int:
        """As many rows as fit into ``limit`` bytes, but at least one."""
        lengths = np.concatenate([chunk.sizes for chunk in self._chunks])
        return max(1, int(np.searchsorted(np.cumsum(lengths), limit, side="right")))


def oldest(messages: pa.Table) -> float | None:
    """The earliest publish time, in seconds since 1970."""
    first = pc.min(messages["publish_time"].cast(pa.int64())).as_py()
    return None if first is None else first / 1e6
