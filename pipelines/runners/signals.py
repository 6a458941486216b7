"""SIGTERM and SIGINT as requests to stop cleanly."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ["ended_by_sigterm", "stopped_by_signals"]

_THE_SAME = 1.0


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """End with code 143 at SIGTERM, also as a container's first process, which ignores it by default."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stopped_by_signals(stopped: Callable[[], None]) -> Iterator[None]:
    """Call ``stopped`` at the first of these signals; the same one again ends the process at once.

    Within a second it is the first one still: a terminal and a supervisor may both hand it on.
    """
    first: dict[int, float] = {}

    def handle(number: int, _frame: FrameType | None) -> None:
        if number not in first:
            first[number] = time.monotonic()
            stopped()
        elif time.monotonic() - first[number] > _THE_SAME:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    here = threading.current_thread() is threading.main_thread()  # only the main thread receives signals
    numbers = (signal.SIGTERM, signal.SIGINT) if here else ()
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
