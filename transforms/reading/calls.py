"""How a shard waits for what is away: for its broker for ever, for the lake as long as it was told to."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from transforms import metrics
from transforms.errors import TransientError
from transforms.retry import Patience, retry

__all__ = ["Asking"]

_LOOK_EVERY = 5.0
_T = TypeVar("_T")


class Asking:
    """Calls to broker and lake, tried again until they succeed or the process is told to stop."""

    def __init__(self, stopping: Callable[[], bool], give_up_after: float | None) -> None:
        """Give the lake up after so many seconds of absence; None is never."""
        self._stopping = stopping
        self._patience = Patience(give_up_after)
        self._look: Future[Any] | None = None
        self._looked = 0.0

    @property
    def without_lake(self) -> bool:
        """Whether the lake has been away for so long that work goes on without it."""
        return self._patience.ended

    def broker(self, call: Callable[[], _T], what: str) -> _T:
        """Call until it succeeds.

        Raises:
            TransientError: it was still away when the process was told to stop.
        """
        return retry(call, what, on_retry=metrics.RETRIES.labels("broker").inc, stopped=self._stopping)

    def lake(self, call: Callable[[], _T], what: str) -> _T | None:
        """Call until it succeeds; None once the lake is given up. Raises as :meth:`broker`."""
        if self.without_lake:
            return None
        try:
            return retry(
                self._patience.watched(call),
                what,
                on_retry=metrics.RETRIES.labels("lake").inc,
                stopped=lambda: self._stopping() or self.without_lake,
            )
        except TransientError:
            if self._stopping():
                raise
            return None

    def look_for_lake(self, pool: ThreadPoolExecutor, call: Callable[[], object]) -> None:
        """While the lake is given up, try ``call`` now and then beside the reading, to see it come back."""
        running = self._look is not None and not self._look.done()
        if running or time.monotonic() - self._looked < _LOOK_EVERY:
            return
        self._looked = time.monotonic()
        self._look = pool.submit(self._patience.watched(call))
