"""Caches expensive queries: one thread asks, and all others use its last answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from typing import Generic, TypeVar

__all__ = ["CachedAnswer"]

_T = TypeVar("_T")
_FRESH = 5.0
_AS_LONG_AGAIN = 20.0
_REFRESH_WAIT = 0.5
_AGAIN_AFTER, _AGAIN_AFTER_MOST = 1.0, 60.0


class CachedAnswer(Generic[_T]):
    """An answer that stays fresh for five seconds, or twenty times as long as it took; thread-safe.

    After a failure the next query waits as long as the failed one took, and at least a second.
    """

    def __init__(self, ask: Callable[[], _T]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._running: Future[_T] | None = None
        self._answer: _T | None = None
        self._failed: Future[_T] | None = None

    def get(self, patience: float = 2.0) -> _T | None:
        """The last answer; None if there is none after ``patience`` seconds.

        Raises:
            Exception: the error of the last query.
        """
        with self._lock:
            if self._running is None and time.monotonic() >= self._until:
                self._running = Future()
                threading.Thread(target=self._work, args=(self._running,), daemon=True).start()
            running, known = self._running or self._failed, self._answer
        if running is None:
            return known
        try:
            return running.result(patience if known is None else _REFRESH_WAIT)
        except NotYetError:
            return known

    def _work(self, running: Future[_T]) -> None:
        started = time.monotonic()
        try:
            answer = self._ask()
        except Exception as error:  # noqa: BLE001 - raised in the thread that waits for the answer
            took = time.monotonic() - started
            self._failed = running
            self._end(None, time.monotonic() + min(max(took, _AGAIN_AFTER), _AGAIN_AFTER_MOST))
            running.set_exception(error)
            return
        ended = time.monotonic()
        self._failed = None
        self._end(answer, ended + max(_FRESH, _AS_LONG_AGAIN * (ended - started)))
        running.set_result(answer)

    def _end(self, answer: _T | None, until: float) -> None:
        with self._lock:
            self._running = None
            self._until = until
            self._answer = self._answer if answer is None else answer
