"""The loop that waits out a transient failure, and how long a server may be away before it is given up."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from transforms.errors import TransientError

__all__ = ["Patience", "retry", "waiting"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_waiting: dict[str, str] = {}


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


def retry(
    call: Callable[[], _T],
    what: str,
    *,
    give_up_after: float | None = None,
    on_retry: Callable[[], object] = lambda: None,
    stopped: Callable[[], bool] = lambda: False,
) -> _T:
    """Call until it succeeds, pausing with jittered exponential backoff.

    Only :class:`TransientError` is waited out. The first failure is logged and so is the
    recovery; the failures between are counted through ``on_retry`` only.

    Args:
        what: names the call in the log by a verb, for example ``"write s3://lake/a.parquet"``.
        give_up_after: seconds after which the last error is raised; ``None`` is never.
        on_retry: called before each new attempt.
        stopped: when it turns true, the last error is raised instead of waiting on.

    Raises:
        TransientError: after ``give_up_after`` seconds, or once ``stopped`` is true.
    """
    started, pause, failed = time.monotonic(), _FIRST_PAUSE, False
    try:
        while True:
            try:
                result = call()
            except TransientError as error:
                if stopped() or (give_up_after is not None and time.monotonic() - started >= give_up_after):
                    raise
                if not failed:
                    _log.warning("cannot %s, trying again until it succeeds: %s", what, error)
                failed, _waiting[what] = True, str(error)
                on_retry()
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, hides nothing
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                if failed:
                    _log.warning("could %s after %.0f s", what, time.monotonic() - started)
                return result
    finally:
        if failed:
            _waiting.pop(what, None)


def waiting(about: str) -> str | None:
    """What a call of this process waits for whose name contains ``about``, in one sentence."""
    for what, why in tuple(_waiting.items()):
        if about in what:
            return f"cannot {what}: {why}"
    return None
