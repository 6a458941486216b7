"""Launchers: each runs a planned job outside of the service, so that Beam never enters it.

A launcher's job outlives the service; what :meth:`Launcher.start` returns is kept in the job's row,
so that another process of the service can go on watching.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Launcher", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        report: the job's own account (``transforms.replay.Report.to_dict``), None where it left none.
        reason: why there is none, one sentence.
    """

    report: Mapping[str, Any] | None
    reason: str = ""


class Launcher(Protocol):
    """Starts jobs and learns how they end. Thread-safe."""

    def start(self, job: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Start ``persistor resubmit`` for a job whose plan is stored.

        Args:
            job: its id, which names its files too.
            settings: the command's settings by name; they hold ``resume``, the job's id.

        Returns:
            What finds the run again, JSON types only.

        Raises:
            TransientError: it could not be started.
        """

    def wait(self, run: Mapping[str, Any]) -> Outcome:
        """Block until the run has ended; at once for one that ended before."""

    def forget(self, run: Mapping[str, Any]) -> None:
        """Throw away what a run left behind, once its report is kept elsewhere."""
