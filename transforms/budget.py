"""A limit of time for what an index is asked, where somebody waits for the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from transforms.errors import PersistorError

__all__ = ["Budget", "TooSlowError", "current", "within"]


class TooSlowError(PersistorError):
    """A query was ended at the end of its budget; whether the index answers others is not known."""


@dataclass(frozen=True)
class Budget:
    """What a query may cost.

    Attributes:
        until: when it is spent, as :func:`time.monotonic` counts.
        unwanted: whether nobody waits for the answer any more.
    """

    until: float
    unwanted: Callable[[], bool] = lambda: False

    def spent(self) -> bool:
        """Whether a query must end now."""
        return time.monotonic() >= self.until or self.unwanted()

    def left(self) -> float:
        """Seconds that are left.

        Raises:
            TooSlowError: none are.
        """
        if self.spent():
            raise TooSlowError("the time for this query is over")
        return max(self.until - time.monotonic(), 0.001)


_current: ContextVar[Budget | None] = ContextVar("budget", default=None)


def current() -> Budget | None:
    """The budget of this thread's queries, if they have one."""
    return _current.get()


@contextmanager
def within(budget: Budget) -> Iterator[None]:
    """Give the index's methods that are called in this block a budget.

    They raise ``TooSlowError`` when it is spent. Do not suspend a generator within the block.
    """
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)
