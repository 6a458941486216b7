"""Limits how often a caller may send requests: a steady rate with room for a burst."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["RateLimit"]

_MOST_KEYS = 10_000


class RateLimit:
    """Counts requests by key in this process; after a silent minute the whole allowance is back."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 60 / per_minute
        self._clock = clock
        self._lock = threading.Lock()
        # When a key's allowance is whole again: the only state of the generic cell rate algorithm.
        self._whole: dict[str, float] = {}

    def take(self, key: str) -> float:
        """Count one request.

        Returns:
            0 if it may pass, else the seconds to wait; it is not counted then.
        """
        with self._lock:
            now = self._clock()
            whole = max(self._whole.get(key, now), now) + self._interval
            if whole - now > 60 + 1e-9:
                return whole - now - 60
            self._whole[key] = whole
            if len(self._whole) > _MOST_KEYS:
                self._whole = {key: at for key, at in self._whole.items() if at > now}
            return 0.0
