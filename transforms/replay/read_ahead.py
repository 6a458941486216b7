"""Reads a lane one window ahead of sending."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from transforms.replay.window_reader import Checked

__all__ = ["ReadAhead"]

_FILES_AT_A_TIME = 4


class ReadAhead:
    """The windows of a lane, the next one read meanwhile on threads of its own.

    Attributes:
        next: the next window, or None at the end of the lane; the future raises what reading raised. It is
            not begun after :meth:`take`, so that a lane that waits for its turn holds one window only.
    """

    def __init__(self, read: Callable[[ThreadPoolExecutor, Callable[[], bool]], Iterator[Checked]]) -> None:
        """Read what ``read`` yields; it is given threads for files, and asks whether to stop."""
        self._closing = False
        self._thread, self._files = ThreadPoolExecutor(1), ThreadPoolExecutor(_FILES_AT_A_TIME)
        self._windows = read(self._files, lambda: self._closing)
        self.next: Future[Checked | None] | None = None

    def begin(self) -> Future[Checked | None]:
        """Begin to read ``next`` unless that is so."""
        if self.next is None:
            self.next = self._thread.submit(next, self._windows, None)
        return self.next

    def take(self) -> None:
        """Leave ``next``, which was waited for, to the caller."""
        self.next = None

    def close(self) -> None:
        """Stop reading, and wait until that is so."""
        self._closing = True
        self._thread.shutdown()
        self._files.shutdown()
