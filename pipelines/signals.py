"""SIGTERM and SIGINT as the wish to end in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stopped_by_signals"]


@contextmanager
def stopped_by_signals(stopped: Callable[[], None]) -> Iterator[None]:
    """Call ``stopped`` at the first of these signals; the second one ends the process at once."""

    def handle(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stopped()

    here = threading.current_thread() is threading.main_thread()  # no other thread may take signals
    numbers = (signal.SIGTERM, signal.SIGINT) if here else ()
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
