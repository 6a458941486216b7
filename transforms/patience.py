"""How long a server may be away before what waits for it is given up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from transforms.errors import TransientError

__all__ = ["Patience"]

_T = TypeVar("_T")


class Patience:
    """Measures one server's absence over all calls to it, so that they give up together. Thread-safe.

    Attributes:
        why: the last failure, for whoever gives up.
    """

    def __init__(self, seconds: float | None) -> None:
        """Give up ``seconds`` after the first failing call began, without a success since; None is never."""
        self._seconds = seconds
        self._since: float | None = None
        self.why = ""

    def watched(self, call: Callable[[], _T]) -> Callable[[], _T]:
        """``call``, whose outcomes are taken as the server being there or away."""

        def watching() -> _T:
            # A server that is frozen fails no call before its timeout, and is away all the while.
            away, begun = False, time.monotonic()
            try:
                return call()
            except TransientError as error:
                away, self.why = True, str(error)
                raise
            finally:
                self._since = (self._since or begun) if away else None

        return watching

    @property
    def ended(self) -> bool:
        """Whether the server has been away for too long, and is still away as far as known."""
        since = self._since
        return self._seconds is not None and since is not None and time.monotonic() - since >= self._seconds
