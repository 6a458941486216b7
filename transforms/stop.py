"""Shared state of this process: the request to stop, and its first failure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from transforms.errors import PersistorError

__all__ = ["failure", "note_failure", "noting_failures", "stop", "stopping"]

_P = ParamSpec("_P")
_Out = TypeVar("_Out")
_stopping = threading.Event()
_failures: list[PersistorError] = []


def stop() -> None:
    """Request the end: sources close open batches and end, and no retry waits any more."""
    _stopping.set()


def stopping() -> bool:
    """Whether :func:`stop` was called."""
    return _stopping.is_set()


def note_failure(error: PersistorError) -> None:
    """Keep the exception of a failed bundle, because runners pass on only its text."""
    _failures.append(error)


def noting_failures(call: Callable[_P, _Out]) -> Callable[_P, _Out]:
    """Wrap ``call``, so that its failures are recorded."""

    def recording(*arguments: _P.args, **named: _P.kwargs) -> _Out:
        try:
            return call(*arguments, **named)
        except PersistorError as error:
            note_failure(error)
            raise

    return recording


def failure() -> PersistorError | None:
    """The first recorded failure."""
    return _failures[0] if _failures else None
