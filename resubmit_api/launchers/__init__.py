"""Launchers: each runs a job outside of the service, so that Beam never enters it.

A launcher's job outlives the service and keeps its own row in the index; the service only starts it
again where it is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Launcher"]


class Launcher(Protocol):
    """Starts jobs and notices when they have ended. Thread-safe."""

    def start(self, job: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Start ``persistor resubmit`` for a job that has a row.

        Args:
            job: its id, which names its files too.
            settings: the command's settings by name; they hold ``resume``, the job's id.

        Returns:
            What finds the run again, JSON types only: its ``host`` and ``pid`` among it.

        Raises:
            TransientError: it could not be started.
        """

    def wait(self, run: Mapping[str, Any], seconds: float) -> str | None:
        """Wait for a run to end.

        Returns:
            The run's last words, "" where it ended well, None while it goes on.
        """
