"""What this process was told: to end, or why it failed. Shared by everything that runs in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from transforms.errors import PersistorError

__all__ = ["failure", "note_failure", "noting_failures", "stop", "stopping"]

_P = ParamSpec("_P")
_Out = TypeVar("_Out")
_told = threading.Event()
_failures: list[PersistorError] = []


def stop() -> None:
    """End: sources close what is open and end, and nothing waits any more for what is away."""
    _told.set()


def stopping() -> bool:
    """Whether :func:`stop` was called."""
    return _told.is_set()


def note_failure(error: PersistorError) -> None:
    """Keep why a bundle failed: runners hand on the text of an exception only."""
    _failures.append(error)


def noting_failures(call: Callable[_P, _Out]) -> Callable[_P, _Out]:
    """``call``, with its failures noted."""

    def noting(*arguments: _P.args, **named: _P.kwargs) -> _Out:
        try:
            return call(*arguments, **named)
        except PersistorError as error:
            note_failure(error)
            raise

    return noting


def failure() -> PersistorError | None:
    """The first failure that was noted."""
    return _failures[0] if _failures else None
