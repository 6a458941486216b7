"""The three kinds of failure, and the one loop that waits a transient one out."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

__all__ = [
    "ConfigurationError",
    "PermanentError",
    "PersistorError",
    "TransientError",
    "retry",
    "waiting",
]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_waiting: dict[str, str] = {}


class PersistorError(Exception):
    """Base of every failure that Persistor itself raises.

    Attributes:
        exit_code: of a command that it ends.
    """

    exit_code = 1


class ConfigurationError(PersistorError):
    """What the user asked for cannot be done as asked.

    Attributes:
        problems: one sentence per problem, each saying what to do.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[ConfigurationError], tuple[list[str]]]:
        return type(self), (self.problems,)


class TransientError(PersistorError):
    """A server is away or refuses for now; the same call may succeed later."""


class PermanentError(PersistorError):
    """The same call will never succeed, whatever is waited for."""


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
