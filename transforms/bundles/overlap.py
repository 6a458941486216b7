"""Processes a bundle's elements on a few threads, and waits for them before the bundle ends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from transforms.memory import HELD

__all__ = ["Overlap"]

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Overlap(Generic[_In, _Out]):
    """Calls a function for each element on other threads, bounded in number and bytes.

    Results come in the order of the elements. The first exception is raised in place of its result.
    An element counts for the memory of the process until its call has ended.
    """

    def __init__(self, call: Callable[[_In], _Out], threads: int, most_bytes: int) -> None:
        self._call = call
        self._most_bytes = most_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads)
        self._running: deque[Future[_Out]] = deque()

    def add(self, element: _In, size: int) -> Iterator[_Out]:
        """Start one element; yields finished results, waiting only while too many bytes are in progress."""
        self._count(size)
        future = self._pool.submit(self._call, element)
        future.add_done_callback(lambda _: self._count(-size))
        self._running.append(future)
        while self._running and (self._bytes > self._most_bytes or self._running[0].done()):
            yield self._running.popleft().result()

    def finish(self) -> Iterator[_Out]:
        """Wait for all."""
        while self._running:
            yield self._running.popleft().result()

    def abandon(self) -> None:
        """Drop the remains of an earlier, failed bundle."""
        while self._running:
            self._running.popleft().cancel()

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _count(self, bytes: int) -> None:
        with self._lock:
            self._bytes += bytes
            HELD.hold(self, self._bytes)
