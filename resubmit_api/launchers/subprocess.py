"""Runs jobs as ``persistor resubmit`` processes on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from transforms.errors import ConfigurationError, TransientError

__all__ = ["SubprocessLauncher", "open_launcher", "problems"]

_COMMAND = (sys.executable, "-m", "pipelines", "resubmit", "--config", "/dev/stdin")
_KEPT = 7 * 86_400.0
_SHOWN = 1000
"""Bytes of a failed process's error output quoted in its job's reason."""


def problems(config: Mapping[str, str]) -> Iterator[str]:
    """See :class:`resubmit_api.launchers.LauncherModule`."""
    if config:
        yield "`launcher_config` goes with `launcher: flink` or dataflow."


def open_launcher(directory: Path, config: Mapping[str, str]) -> SubprocessLauncher:
    """See :class:`resubmit_api.launchers.LauncherModule`."""
    if found := list(problems(config)):
        raise ConfigurationError(found)
    return SubprocessLauncher(directory)


class SubprocessLauncher:
    """Runs one process per job, in its own session: stopping the service does not stop it.

    Settings go through a pipe, because everybody can see a command line. The error output is kept in
    ``<job>.err`` while the process runs, and after it failed.
    """

    def __init__(self, directory: Path) -> None:
        """Use ``directory``; created if missing.

        Raises:
            ConfigurationError: it cannot be used, or belongs to another user.
        """
        self._directory = directory
        # Kept until its end is known: one that is forgotten is reaped by the next start.
        self._started: dict[int, subprocess.Popen[bytes]] = {}
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if directory.is_symlink() or directory.stat().st_uid != os.getuid():
                raise ConfigurationError(
                    f"{directory} belongs to another user or is a link: name another directory."
                )
            _tidy(directory)
        except OSError as error:
            raise ConfigurationError(f"{directory} cannot be used for jobs: {error.strerror}.") from error

    def start(self, job: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Start the process; see :class:`resubmit_api.launchers.Launcher`."""
        try:
            with self._errors(job).open("wb") as errors:
                process = subprocess.Popen(  # noqa: S603 - no shell, and no text from a request
                    _COMMAND,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,
                )
            started = psutil.Process(process.pid).create_time()
            assert process.stdin is not None  # noqa: S101 - a pipe was requested
            with process.stdin as pipe:
                # JSON is YAML; as JSON the command shows no progress, which is no reason of anything.
                pipe.write(json.dumps({**settings, "json": True}).encode())
            self._started[process.pid] = process
        except (OSError, psutil.Error) as error:
            raise TransientError(f"the job's process could not be started: {error}") from error
        return {"host": socket.gethostname(), "pid": process.pid, "started": started, "job": job}

    def wait(self, run: Mapping[str, Any], seconds: float) -> str | None:
        """Wait for the process; see :class:`resubmit_api.launchers.Launcher`."""
        try:
            code = self._code(run, seconds)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            return None
        path = self._errors(run["job"])
        if not code:
            path.unlink(missing_ok=True)
            return ""
        if code < 0:
            return f"Its process was killed by {signal.Signals(-code).name}."
        return _end_of(path) or f"It ended with {code}."

    def _code(self, run: Mapping[str, Any], seconds: float) -> int | None:
        """How a process ended; None where it was another's, such as one of this service before a restart."""
        pid = int(run["pid"])
        if process := self._started.get(pid):
            code = process.wait(seconds)
            self._started.pop(pid, None)
            return code
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(seconds)
        return None

    def _errors(self, job: str) -> Path:
        return self._directory / f"{job}.err"


def _tidy(directory: Path) -> None:
    for path in directory.glob("*.err"):
        if path.stat().st_mtime < time.time() - _KEPT:
            path.unlink(missing_ok=True)


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _SHOWN, 0))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
