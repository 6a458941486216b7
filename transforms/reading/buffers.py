"""The buffer of one partition: messages that were read but are not yet in a batch."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.brokers import Fetched, Mark
from transforms.entries import sizes, total_size
from transforms.model import MESSAGE_SCHEMA

__all__ = ["Buffer", "Limits", "oldest"]


@dataclass(frozen=True)
class Limits:
    """Limits that close a batch, whichever comes first: messages, bytes, or seconds since it was opened."""

    messages: int = 10_000
    bytes: int = 64 * 2**20
    age: float = 30.0


# What a chunk takes besides its messages: Arrow's objects for its columns.
_OBJECTS = 10_000
_SMALL = 64 * 2**10
_MANY = 16
# Each join has its messages in memory twice for a moment.
_joining = threading.Lock()


@dataclass
class _Chunk:
    messages: pa.Table
    bytes: int
    receipts: Sequence[Any]
    arrived: float
    epoch: int | None
    whole: bool = True

    @property
    def rows(self) -> int:
        return len(self.messages)

    @cached_property
    def held(self) -> int:
        return int(self.messages.nbytes) + _OBJECTS

    @property
    def mark(self) -> Mark | None:
        if self.epoch is None:
            return None
        return self.messages["offset"][-1].as_py() + 1, self.epoch

    def part(self, start: int, end: int) -> _Chunk:
        if (start, end) == (0, self.rows):
            return self
        messages = self.messages.slice(start, end - start)
        receipts = self.receipts[start:end]
        return _Chunk(messages, total_size(messages), receipts, self.arrived, self.epoch, whole=False)


def _joined(chunks: Sequence[_Chunk]) -> _Chunk:
    """Chunks of one epoch as one, whose columns are in one piece: each use would join them again."""
    with _joining:
        tables = [MESSAGE_SCHEMA.empty_table(), *(chunk.messages for chunk in chunks)]
        messages = pa.concat_tables(tables).combine_chunks()
    receipts = [receipt for chunk in chunks for receipt in chunk.receipts]
    bytes = sum(chunk.bytes for chunk in chunks)
    return _Chunk(messages, bytes, receipts, chunks[0].arrived, chunks[-1].epoch)


class Buffer:
    """A queue of messages with the position behind each; rows leave it in front only.

    Attributes:
        end: where reading goes on.
        bytes: sizes of the messages, as the index has them.
        held: bytes of memory that they take.
        mark: of the last message before that, as far as known.
    """

    def __init__(self, position: int, mark: Mark | None = None) -> None:
        """Begin empty at ``position``."""
        self.end = position
        self.mark = mark
        self.rows = 0
        self.bytes = 0
        self.held = 0
        self._small = 0
        self._chunks: deque[_Chunk] = deque()

    def add(self, fetched: Fetched) -> None:
        """Append read messages; ``end`` becomes the position after them."""
        self.end = fetched.position
        if not len(fetched.messages):
            return
        bytes = total_size(fetched.messages)
        now, whole = time.monotonic(), all(one.num_chunks == 1 for one in fetched.messages.columns)
        chunk = _Chunk(fetched.messages, bytes, fetched.receipts, now, fetched.epoch, whole)
        self._put(chunk, self._chunks.append)
        self.mark = self._chunks[-1].mark
        self._join_small()

    def closed(self, limits: Limits) -> tuple[int, str] | None:
        """Rows of the batch that a limit closes now and the limit's name, or None."""
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
        """The number of rows at the front below a position."""
        rows = 0
        for chunk in self._chunks:
            below = int(np.searchsorted(chunk.messages["offset"].to_numpy(), position))
            rows += below
            if below < chunk.rows:
                break
        return rows

    def offset(self, row: int) -> int:
        """The offset of a row, counted from the front; 0 if the broker has none."""
        for chunk in self._chunks:
            if row < chunk.rows:
                break
            row -= chunk.rows
        return chunk.messages["offset"][row].as_py() or 0

    def mark_behind(self, rows: int) -> Mark | None:
        """The mark of the last of the first ``rows``; None for no rows, and where there are no epochs."""
        chunks = list(self._front(rows))
        return chunks[-1].mark if chunks else None

    def peek(self, rows: int) -> tuple[pa.Table, list[Any]]:
        """The first rows, in one chunk, and their receipts; left in place."""
        chunks = list(self._front(rows))
        if not chunks:
            return MESSAGE_SCHEMA.empty_table(), []
        joined = chunks[0] if chunks[0].whole and len(chunks) == 1 else _joined(chunks)
        if len({chunk.epoch for chunk in chunks}) == 1:
            # In their place, or they would be in memory twice until they are claimed.
            self.pop(rows)
            self._put(joined, self._chunks.appendleft)
            self._small = 0
        return joined.messages, list(joined.receipts)

    def pop(self, rows: int) -> None:
        """Remove the first rows."""
        while rows:
            chunk = self._chunks.popleft()
            taken = min(rows, chunk.rows)
            self.bytes -= chunk.bytes
            self.rows -= chunk.rows
            self.held -= chunk.held
            rows -= taken
            if taken < chunk.rows:
                self._put(chunk.part(taken, chunk.rows), self._chunks.appendleft)

    def truncate(self, position: int) -> None:
        """Drop the rows from a position on."""
        kept = list(self._front(self.rows_below(position)))
        self._chunks.clear()
        self.rows = self.bytes = self.held = 0
        for chunk in kept:
            self._put(chunk, self._chunks.append)
        self.end = min(self.end, position)
        self.mark = None

    def oldest(self) -> list[float]:
        """The earliest publish time at the front, in seconds since 1970; empty if unknown."""
        time = oldest(self._chunks[0].messages) if self._chunks else None
        return [] if time is None else [time]

    def _put(self, chunk: _Chunk, place: Callable[[_Chunk], None]) -> None:
        place(chunk)
        self.rows += chunk.rows
        self.bytes += chunk.bytes
        self.held += chunk.held

    def _join_small(self) -> None:
        """Join the newest chunks where many are small: each takes more memory than its messages."""
        self._small = self._small + 1 if self._chunks[-1].held - _OBJECTS < _SMALL else 0
        if self._small < _MANY:
            return
        self._small = 0
        small = [self._chunks.pop() for _ in range(min(_MANY, len(self._chunks)))][::-1]
        joined = [_joined(list(same)) for _, same in groupby(small, lambda chunk: chunk.epoch)]
        self.held += sum(chunk.held for chunk in joined) - sum(chunk.held for chunk in small)
        self._chunks.extend(joined)

    def _front(self, rows: int) -> Iterator[_Chunk]:
        for chunk in self._chunks:
            if not rows:
                return
            taken = min(rows, chunk.rows)
            rows -= taken
            yield chunk.part(0, taken)

    def _rows_within(self, limit: int) -> int:
        """The number of rows that fit into ``limit`` bytes, at least one."""
        lengths = np.concatenate([sizes(chunk.messages).to_numpy() for chunk in self._chunks])
        return max(1, int(np.searchsorted(np.cumsum(lengths), limit, side="right")))


def oldest(messages: pa.Table) -> float | None:
    """The earliest publish time, in seconds since 1970."""
    first = pc.min(messages["publish_time"].cast(pa.int64())).as_py()
    return None if first is None else first / 1e6
