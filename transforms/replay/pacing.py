"""How fast a worker's lanes may send, and how far: the rate limit of the job, and turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from transforms.replay.control import Wish

__all__ = ["NO_TIME", "Alone", "Pacer", "Turn"]

NO_TIME = int(np.iinfo(np.int64).min)
"""Publish time, in µs, of a message that has none: it comes before all others."""

_STEP = 0.05
"""Seconds' worth of messages sent at a time: small enough for a smooth stream."""
_MADE_UP = 1.0
"""Seconds of standstill (a commit, a slow read) that may be caught up."""


class Pacer:
    """Decides how many messages may be sent now. Thread-safe; a new rate applies from the next message on."""

    def __init__(self, wish: Callable[[], Wish], share: Callable[[], float] = lambda: 1.0) -> None:
        """Limit the rate to that of the newest wish.

        Args:
            wish: called before each send; see :meth:`Control.wish`.
            share: the part of the job's rate that is this worker's, above 0 and at most 1.
        """
        self.wish = wish
        self._share = share
        self._lock = threading.Lock()
        self._limits: tuple[float | None, float | None] = (None, None)
        self._free = time.monotonic()

    def allow(self, sizes: npt.NDArray[np.int64]) -> int:
        """Wait a moment at most, then return how many of the next messages may be sent now.

        Args:
            sizes: bytes of each waiting message, in order; at least one.
        """
        wish = self.wish()
        limits = wish.messages_per_second, wish.bytes_per_second
        with self._lock:
            now = time.monotonic()
            if limits != self._limits:
                self._limits, self._free = limits, now
            if limits == (None, None):
                return len(sizes)
            wait = self._free - now
            if wait <= 0:
                return self._take(sizes, now)
        time.sleep(min(wait, _STEP))
        return 0

    def _take(self, sizes: npt.NDArray[np.int64], now: float) -> int:
        share = self._share()
        messages, size = (limit and limit * share for limit in self._limits)
        count = len(sizes)
        if messages:
            count = min(count, int(messages * _STEP))
        if size:
            count = min(count, int(np.searchsorted(np.cumsum(sizes), size * _STEP, side="right")))
        count = max(count, 1)
        cost = max(count / messages if messages else 0.0, int(sizes[:count].sum()) / size if size else 0.0)
        self._free = max(self._free, now - _MADE_UP) + cost
        return count


class Turn(Protocol):
    """How far a lane may send now."""

    def limit(self, time_us: int) -> int | None:
        """Say that the next message is of this publish time, in µs.

        Returns:
            The latest publish time that may be sent now; None is any. If it is earlier than the next
            message's, the lane confirms what it has sent, and its turn ends.
        """

    def is_over(self, messages: int) -> bool:
        """Whether the turn ends after this many messages, for other lanes to have theirs."""


class Alone:
    """The turn of a lane without others."""

    def limit(self, time_us: int) -> int | None:  # noqa: ARG002 - see Turn
        """Any time."""
        return None

    def is_over(self, messages: int) -> bool:  # noqa: ARG002 - see Turn
        """Never."""
        return False
