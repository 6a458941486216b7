"""How long maintenance waits for a store that does not answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from transforms.retry import retry

__all__ = ["patiently"]

_T = TypeVar("_T")
_PATIENCE = 300.0


def patiently(call: Callable[[], _T], what: str) -> _T:
    """The result of a call; one that fails for now is called again for up to five minutes.

    Raises:
        TransientError: it still failed then.
    """
    return retry(call, what, give_up_after=_PATIENCE)
