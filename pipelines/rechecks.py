"""Checking a job's destination again and again while the job runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from transforms.errors import ConfigurationError, TransientError

__all__ = ["Rechecks"]

_EVERY = 60.0
"""Seconds between two looks: what a destination refuses or deletes by now should not be much."""


class Rechecks:
    """Looks at a destination each minute while the block runs, from a thread of its own.

    Attributes:
        problems: problems of sending on, in sentences; once there are any, it looks no more.
    """

    def __init__(self, check: Callable[[], list[str]], on_problems: Callable[[], object]) -> None:
        """Call ``on_problems`` once, from that thread, when ``check`` gives problems or refuses."""
        self._check, self._on_problems = check, on_problems
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rechecks", daemon=True)
        self.problems: list[str] = []

    def __enter__(self) -> Rechecks:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # One look may wait for a broker that is away: it ends by itself, and nobody heeds it.
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(_EVERY):
            try:
                found = self._check()
            except ConfigurationError as error:
                found = error.problems
            except TransientError:
                continue
            if found and not self._ended.is_set():
                self.problems = found
                self._on_problems()
                return
