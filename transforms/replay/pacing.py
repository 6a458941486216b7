"""The rate limit of a job: one pacer per process, shared by its lanes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from transforms.lake import Lake
from transforms.replay.control import Control, Wish

__all__ = ["Pacer", "pacer_of"]

_STEP = 0.05
"""Seconds' worth of messages sent at a time: small enough for a smooth stream."""
_MADE_UP = 1.0
"""Seconds of standstill (a commit, a slow read) that may be caught up."""


class Pacer:
    """Decides how many messages may be sent now. Thread-safe; a new rate applies from the next message on."""

    def __init__(self, wish: Callable[[], Wish], workers: int = 1) -> None:
        """Limit the rate to that of the newest wish.

        Args:
            wish: called before each send; see :meth:`Control.wish`.
            workers: processes that share the job's rate evenly.
        """
        self.wish = wish
        self._workers = workers
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
        messages, size = (limit and limit / self._workers for limit in self._limits)
        count = len(sizes)
        if messages:
            count = min(count, int(messages * _STEP))
        if size:
            count = min(count, int(np.searchsorted(np.cumsum(sizes), size * _STEP, side="right")))
        count = max(count, 1)
        cost = max(count / messages if messages else 0.0, int(sizes[:count].sum()) / size if size else 0.0)
        self._free = max(self._free, now - _MADE_UP) + cost
        return count


_pacers: dict[tuple[str, str], Pacer] = {}
_pacers_lock = threading.Lock()


def pacer_of(lake: Lake, job: str, workers: int = 1) -> Pacer:
    """The only pacer of a job in this process; see :class:`Pacer`.

    Args:
        lake: holds the job's plan.
        job: its id.
        workers: used when the pacer is created.
    """
    with _pacers_lock:
        if (lake.url, job) not in _pacers:
            _pacers[lake.url, job] = Pacer(Control(lake, job).wish, workers)
        return _pacers[lake.url, job]
