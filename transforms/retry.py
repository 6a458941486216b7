"""Retries transient failures, and measures how long a server has not answered."""

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
    """Measures how long one server does not answer any call, so that all give up together. Thread-safe.

    Attributes:
        why: the last failure.
    """

    def __init__(self, seconds: float | None) -> None:
        """Give up ``seconds`` after the start of the first failing call without a success since, or never."""
        self._seconds = seconds
        self._since: float | None = None
        self.why = ""

    def watched(self, call: Callable[[], _T]) -> Callable[[], _T]:
        """Wrap ``call``, so that its outcomes show whether the server answers."""

        def watching() -> _T:
            # A frozen server fails calls only after their timeout, but it is away from their start.
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
        """Whether the server has not answered for too long, and still does not as far as known."""
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

    Only :class:`TransientError` is retried. The first failure is logged and so is the
    recovery; the failures between are counted through ``on_retry`` only.

    Args:
        what: names the call in the log, beginning with a verb, for example ``"write s3://lake/a.parquet"``.
        give_up_after: seconds after which the last error is raised; ``None`` means never.
        on_retry: called before each new attempt.
        stopped: once true, the last error is raised instead of waiting.

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
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - it spreads load and protects nothing
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                if failed:
                    _log.warning("could %s after %.0f s", what, time.monotonic() - started)
                return result
    finally:
        if failed:
            _waiting.pop(what, None)


def waiting(about: str) -> str | None:
    """A sentence about a waiting call of this process, whose name contains ``about``."""
    for what, why in tuple(_waiting.items()):
        if about in what:
            return f"cannot {what}: {why}"
    return None
