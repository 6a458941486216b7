"""The memory of a process for messages between broker and lake: how much it may be, and how much it is.

The bound is one for all shards and writers of a process, because a worker of a distributed runner has
several. It is for messages; the libraries take their memory besides.
"""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass

import pyarrow as pa

__all__ = ["BOUND", "HELD", "Bound", "Held", "return_what_is_freed"]

# mallopt's numbers of these.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


@dataclass(frozen=True)
class Bound:
    """The shares of ``--memory``, in bytes; what is left is for copies that are made on the way.

    Attributes:
        bytes: all of it.
        shards: how many may be in one process.
    """

    bytes: int = 512 * 2**20
    shards: int = 1

    @property
    def ahead(self) -> int:
        """What the broker's client of one shard may hold before anybody has asked for it."""
        return self.bytes // 8 // self.shards

    @property
    def high(self) -> int:
        """Held messages above which nothing is read and open batches are closed, the largest first."""
        return self.bytes * 5 // 8

    @property
    def low(self) -> int:
        """Held messages down to which they are closed then."""
        return self.bytes * 3 // 8

    @property
    def batch(self) -> int:
        """The largest batch."""
        return self.bytes // 8

    @property
    def writing(self) -> int:
        """Batches and their files that may be on their way to the lake at once; one batch always may."""
        return self.bytes // 4


BOUND = Bound()
"""The default."""


class Held:
    """Counts the messages that a process holds. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes: dict[int, int] = {}
        self._sum = 0

    @property
    def bytes(self) -> int:
        """Of all holders together."""
        return self._sum

    def hold(self, holder: object, bytes: int) -> None:
        """Record what a holder has now; 0 when it leaves."""
        with self._lock:
            self._sum += bytes - self._bytes.pop(id(holder), 0)
            if bytes:
                self._bytes[id(holder)] = bytes


HELD = Held()
"""Of this process."""


def return_what_is_freed() -> None:
    """Have the allocators of this process return freed memory, at some per cent of the processor.

    Otherwise glibc keeps an arena for each thread and Arrow's pool keeps what it may need again: as much
    as the messages themselves.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library than glibc
        return
    for parameter, value in ((_ARENA_MAX, 2), (_MMAP_THRESHOLD, 2**20), (_TRIM_THRESHOLD, 2**23)):
        mallopt(parameter, value)
