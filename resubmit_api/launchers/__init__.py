"""Launchers, one module each, found by name: each runs a job outside of the service, where Beam never enters.

A launcher's module is its name (``--launcher``); it offers what :class:`LauncherModule` says.
A launched job outlives the service and keeps its own row in the index; the service only restarts it if it
is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from transforms.discovery import load

__all__ = ["Launcher", "LauncherModule", "launcher"]


class Launcher(Protocol):
    """Starts jobs and notices when they have ended. Thread-safe."""

    def start(self, job: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Start ``persistor resubmit`` for a stored job.

        Args:
            job: its id, which names its files too.
            settings: the command's settings by name; they hold ``resume``, the job's id.

        Returns:
            A reference to the run, of JSON types only, with its ``host`` and ``pid``.

        Raises:
            TransientError: it could not be started.
        """

    def wait(self, run: Mapping[str, Any], seconds: float) -> str | None:
        """Wait for a run to end.

        Returns:
            The run's error message; "" if it succeeded, None while it runs.
        """


class LauncherModule(Protocol):
    """What a module of this package offers."""

    def problems(self, config: Mapping[str, str]) -> Iterator[str]:
        """What is wrong with ``launcher_config``, each saying what to do; nothing is asked of a server."""

    def open_launcher(self, directory: Path, config: Mapping[str, str]) -> Launcher:
        """A launcher.

        Args:
            directory: where processes of this machine leave what they complain of; made where missing.
            config: of ``launcher_config``.

        Raises:
            ConfigurationError: the directory cannot be used, or :meth:`problems` names one.
        """


def launcher(name: str) -> LauncherModule:
    """The module of a launcher.

    Raises:
        ConfigurationError: there is no such launcher (the valid ones are listed), or its client's
            library is not installed.
    """
    return cast("LauncherModule", load("resubmit_api.launchers", name))
