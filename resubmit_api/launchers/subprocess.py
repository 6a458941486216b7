"""Runs jobs as processes of this machine, ``python -m pipelines.resubmit``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from resubmit_api.launchers import Outcome
from transforms.errors import ConfigurationError, TransientError

__all__ = ["SubprocessLauncher", "same_process"]

_COMMAND = (sys.executable, "-m", "pipelines.resubmit")
_SHOWN = 1000
"""Bytes of a failed process's messages that its job's reason quotes."""


class SubprocessLauncher:
    """One process per job, in a session of its own: stopping the service does not stop it.

    Settings go through a file that only this user can read, since a command line is seen by all;
    it is deleted when the job has ended. The process writes its report to ``<job>.out``.
    """

    def __init__(self, directory: Path) -> None:
        """Use ``directory``, made where it is missing.

        Raises:
            ConfigurationError: it cannot be used, or belongs to somebody else.
        """
        self._directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if directory.is_symlink() or directory.stat().st_uid != os.getuid():
                raise ConfigurationError(
                    f"{directory} belongs to another user or is a link: name another directory."
                )
        except OSError as error:
            raise ConfigurationError(f"{directory} cannot be used for jobs: {error.strerror}.") from error

    def start(self, job: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Start the process; see :class:`resubmit_api.launchers.Launcher`."""
        try:
            config = self._write_settings(job, {**settings, "json": True})
            with self._path(job, "out").open("wb") as out, self._path(job, "err").open("wb") as err:
                process = subprocess.Popen(  # noqa: S603 - no shell, and nothing of a request
                    [*_COMMAND, "--config", str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
            started = psutil.Process(process.pid).create_time()
        except (OSError, psutil.Error) as error:
            raise TransientError(f"the job's process could not be started: {error}") from error
        return {"host": socket.gethostname(), "pid": process.pid, "started": started, "job": job}

    def wait(self, run: Mapping[str, Any]) -> Outcome:
        """Wait for the process, also for one that an earlier service process started."""
        process = same_process(run)
        if process is not None:
            process.wait()
        self._path(run["job"], "config").unlink(missing_ok=True)
        return _outcome(self._path(run["job"], "out"), self._path(run["job"], "err"))

    def forget(self, run: Mapping[str, Any]) -> None:
        """Delete the output; that of a process without a report is kept for who looks into it."""
        for suffix in ("out", "err"):
            self._path(run["job"], suffix).unlink(missing_ok=True)

    def _path(self, job: str, suffix: str) -> Path:
        return self._directory / f"{job}.{suffix}"

    def _write_settings(self, job: str, settings: Mapping[str, Any]) -> Path:
        path = self._path(job, "config")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(settings, file)  # JSON is YAML
        return path


def same_process(run: Mapping[str, Any]) -> psutil.Process | None:
    """The process that a run's record means, None where it is gone; its number may be another's by now."""
    try:
        process = psutil.Process(int(run["pid"]))
        alive = abs(process.create_time() - float(run["started"])) < 1
    except psutil.Error:
        return None
    return process if alive and run["host"] == socket.gethostname() else None


def _outcome(out: Path, err: Path) -> Outcome:
    try:
        told = json.loads(out.read_bytes())
    except (OSError, ValueError):
        told = None
    if isinstance(told, dict) and isinstance(told.get("report"), dict):
        return Outcome(told["report"])
    return Outcome(None, f"The job's process ended without a report. {_end_of(err)}".strip())


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _SHOWN, 0))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
