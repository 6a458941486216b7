"""Runs jobs on an Apache Flink cluster, through its REST API.

The client is our own: what Beam's does to stop a job is answered by Flink with 404.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests

from resubmit_api.launchers import Launcher
from resubmit_api.launchers.subprocess import SubprocessLauncher
from transforms.errors import ConfigurationError, PermanentError, TransientError
from transforms.retry import retry

__all__ = ["ENDED", "FlinkLauncher", "FlinkRest", "cause", "open_launcher", "problems"]

ENDED = frozenset({"FINISHED", "FAILED", "CANCELED"})
"""The states that a Flink job does not leave."""
_SECONDS = 60.0
_SHOWN = 500
_MASTER = "flink_master"
_FORBIDDEN = ("runner", "streaming", "job_name", "no_wait_until_finish", "output_executable_path")


class FlinkRest:
    """A JobManager's REST API, as far as Beam's jobs need it. Thread-safe.

    Every method raises ``TransientError`` while the JobManager is away, and ``PermanentError`` where
    it refuses, such as for a job that it does not know.
    """

    def __init__(self, url: str) -> None:
        """Ask nothing yet; ``url`` is ``http://HOST:8081``, with the cluster's path behind a proxy."""
        self._url = url.rstrip("/")

    def find(self, name: str) -> str | None:
        """The id of the newest job with a name, None where the cluster remembers none."""
        jobs = self._ask("GET", "jobs/overview")["jobs"]
        named = [job for job in jobs if job["name"] == name]
        return str(max(named, key=lambda job: job["start-time"])["jid"]) if named else None

    def state(self, job: str) -> str:
        """One of Flink's states: RUNNING, RESTARTING, FINISHED and so on."""
        return str(self._ask("GET", f"jobs/{job}")["state"])

    def cancel(self, job: str) -> None:
        """End a job without a savepoint; what was not acknowledged is read again by the next one."""
        self._ask("PATCH", f"jobs/{job}?mode=cancel")

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        try:
            answer = requests.request(method, f"{self._url}/v1/{path}", timeout=_SECONDS, **body)
        except requests.RequestException as error:
            raise TransientError(f"Flink at {self._url} does not answer: {type(error).__name__}") from error
        if answer.status_code in {502, 503, 504}:
            raise TransientError(f"Flink at {self._url} answers {answer.status_code}")
        if not answer.ok:
            raise PermanentError(
                f"Flink refused {method} {path}: {answer.status_code} {answer.text[:_SHOWN]}"
            )
        return answer.json() if answer.text else {}


def problems(config: Mapping[str, str]) -> Iterator[str]:
    """See :class:`resubmit_api.launchers.LauncherModule`."""
    if not config.get(_MASTER):
        yield f"--launcher flink needs --launcher_config {_MASTER}=http://HOST:8081."
    for name in sorted(set(config) & set(_FORBIDDEN)):
        yield f"--launcher_config {name}: the launcher sets that itself."


def open_launcher(directory: Path, config: Mapping[str, str]) -> FlinkLauncher:
    """See :class:`resubmit_api.launchers.LauncherModule`."""
    return FlinkLauncher(SubprocessLauncher(directory), config)


class FlinkLauncher:
    """Runs the lanes of a job on a cluster; see :class:`resubmit_api.launchers.Launcher`.

    A process on this machine plans, submits, and keeps the job's row while Flink works: it is
    another launcher's, told to use Flink. Where that process is lost, its job on the cluster is ended
    before the next process goes on with what is left.
    """

    def __init__(self, processes: Launcher, options: Mapping[str, str]) -> None:
        """Start processes with ``processes``.

        Args:
            processes: starts ``persistor resubmit``.
            options: of Beam: ``flink_master``, the JobManager's address, and what else the cluster
                needs, such as ``environment_type``.

        Raises:
            ConfigurationError: there is no ``flink_master``, or an option that is not the user's.
        """
        if found := list(problems(options)):
            raise ConfigurationError(found)
        self._processes, self._options = processes, dict(options)
        master = options[_MASTER]
        self._rest = FlinkRest(master if "://" in master else f"http://{master}")

    def start(self, job: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Start; see :class:`resubmit_api.launchers.Launcher`."""
        name = f"persistor-{job}"
        try:
            self._end(name)
        except PermanentError as error:
            raise TransientError(f"what an earlier process left on Flink cannot be ended: {error}") from error
        given = {"runner": "FlinkRunner", "job_name": name}
        return self._processes.start(job, {**settings, **self._options, **given})

    def wait(self, run: Mapping[str, Any], seconds: float) -> str | None:
        """Wait for the process; see :class:`resubmit_api.launchers.Launcher`."""
        return self._processes.wait(run, seconds)

    def _end(self, name: str) -> None:
        id = self._rest.find(name)
        if id is None or self._rest.state(id) in ENDED:
            return
        self._rest.cancel(id)
        retry(lambda: self._ended(id), f"cancel {name} on Flink", give_up_after=_SECONDS)

    def _ended(self, id: str) -> None:
        if self._rest.state(id) not in ENDED:
            raise TransientError("it still ends")


def cause(stack: str) -> str:
    """The innermost cause in a stack of Java's; a worker's own error is at the end of it."""
    causes = stack.split("Caused by: ")
    # A cause without a stack of its own says more about the one behind it, such as the address.
    first = -2 if len(causes) > 1 and "\n\t" not in causes[-2] else -1
    lines = [line for text in causes[first:] for line in text.splitlines()]
    return "\n".join(line for line in lines if line.strip() and not line[0].isspace())[-_SHOWN:]
