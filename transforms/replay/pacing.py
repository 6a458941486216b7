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

Ints = npt.NDArray[np.int64]

_STEP = 0.05
"""Seconds' worth of messages sent at a time: small enough for a smooth stream."""
_MADE_UP = 1.0
"""Seconds of standstill (a commit, a slow read) that may be caught up."""


class Pacer:
    """Decides how many messages may be sent now. Thread-safe; a new rate applies from the next message on."""

    def __init__(
        self,
        wish: Callable[[], Wish],
        share: Callable[[], float] = lambda: 1.0,
        schedule: Schedule | None = None,
    ) -> None:
        """Limit the rate to that of the newest wish.

        Args:
            wish: called before each send; see :meth:`Control.wish`.
            share: the part of the job's rate that is this worker's, above 0 and at most 1.
            schedule: when messages are due; None is at once.
        """
        self.wish = wish
        self._schedule = schedule
        self._share = share
        self._lock = threading.Lock()
        self._limits: tuple[float | None, float | None] = (None, None)
        self._free = time.monotonic()

    def allow(self, sizes: Ints, times: Ints | None = None) -> int:
        """Wait a moment at most, then return how many of the next messages may be sent now.

        Args:
            sizes: bytes of each waiting message, in order; at least one.
            times: their publish times in µs, for the schedule.
        """
        if self._schedule is None or times is None:
            return self._within_rate(sizes)
        if not (due := self._schedule.due(times)):
            time.sleep(_STEP)
            return 0
        count = self._within_rate(sizes[:due])
        if not count:
            self._schedule.delay()
        return count

    def _within_rate(self, sizes: Ints) -> int:
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

    def _take(self, sizes: Ints, now: float) -> int:
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


class Schedule:
    """When messages are due that keep the spacing of their publish times. Thread-safe.

    Time runs on from the first question. What holds messages back delays all that follow, and is not made up
    for: a rate limit, or a standstill of more than a second. Messages older than those before them are due at
    once.
    """

    def __init__(self, start_us: int, times_original: float) -> None:
        """A message of ``start_us`` is due first; ``times_original`` is how many times faster time runs."""
        self._lock = threading.Lock()
        self._start_us, self._per_second = start_us, times_original * 1_000_000
        self._began = self._asked = -1.0

    def due(self, times: Ints) -> int:
        """How many of the next messages, given their publish times in µs, are due."""
        with self._lock:
            now = time.monotonic()
            if self._began < 0:
                self._began = self._asked = now
            if now - self._asked > _MADE_UP:
                self._began += now - self._asked
            self._asked = now
            early = np.flatnonzero(times > self._start_us + int((now - self._began) * self._per_second))
        return int(early[0]) if len(early) else len(times)

    def delay(self) -> None:
        """Say that messages which were due are held back since the last question."""
        with self._lock:
            now = time.monotonic()
            self._began += now - self._asked
            self._asked = now


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
