"""Whether the index answers, found out by one thread for all who ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError

from transforms.errors import PersistorError
from transforms.indexes import Index

__all__ = ["Readiness"]

_WITHIN = 2.0


class Readiness:
    """Thread-safe; however many ask, one request at a time goes to the index."""

    def __init__(self, index: Callable[[], Index]) -> None:
        """Ask ``index``."""
        self._index = index
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._running: Future[bool] | None = None

    def answers(self) -> bool:
        """Whether the index answers within two seconds."""
        with self._lock:
            now = time.monotonic()
            running = self._running
            if running is None or running.done():
                running = self._running = Future()
                self._asked = now
                threading.Thread(target=self._ask, args=(running,), daemon=True).start()
            left = self._asked + _WITHIN - now
        try:
            return running.result(max(left, 0.0))
        except NotYetError:
            return False

    def _ask(self, running: Future[bool]) -> None:
        found = False
        try:
            self._index().ping()
            found = True
        except PersistorError:
            pass
        finally:
            running.set_result(found)
