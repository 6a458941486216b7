"""Calls of a shard to its servers: retries the broker for ever, and the lake up to a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from transforms import metrics
from transforms.errors import TransientError
from transforms.retry import Patience, retry

__all__ = ["ServerCalls"]

_LOOK_EVERY = 5.0
_T = TypeVar("_T")


class ServerCalls:
    """Calls to broker and lake, retried until they succeed or the process is asked to stop."""

    def __init__(self, stopping: Callable[[], bool], give_up_after: float | None) -> None:
        """Give up the lake after this many seconds without an answer; None means never."""
        self._stopping = stopping
        self._patience = Patience(give_up_after)
        self._look: Future[Any] | None = None
        self._looked = 0.0

    @property
    def without_lake(self) -> bool:
        """Whether the lake has been given up, so that work continues without it."""
        return self._patience.ended

    def broker(self, call: Callable[[], _T], what: str) -> _T:
        """Call until it succeeds.

        Raises:
            TransientError: it still did not answer when the process was asked to stop.
        """
        return retry(call, what, on_retry=metrics.RETRIES.labels("broker").inc, stopped=self._stopping)

    def lake(self, call: Callable[[], _T], what: str) -> _T | None:
        """Call until it succeeds; None once the lake is given up. Raises like :meth:`broker`."""
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
        """While the lake is given up, try ``call`` regularly in the background, to notice its return."""
        running = self._look is not None and not self._look.done()
        if running or time.monotonic() - self._looked < _LOOK_EVERY:
            return
        self._looked = time.monotonic()
        self._look = pool.submit(self._patience.watched(call))
