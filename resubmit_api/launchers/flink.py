"""Runs jobs on an Apache Flink cluster, through its REST API.

The client is our own, because Beam's request to stop a job gets 404 from Flink.
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
"""The final states of a Flink job."""
_SECONDS = 60.0
_SHOWN = 500
_MASTER = "flink_master"
_FORBIDDEN = ("runner", "streaming", "job_name", "no_wait_until_finish", "output_executable_path")


class FlinkRest:
    """Client of a JobManager's REST API, as far as Beam jobs need it. Thread-safe.

    Every method raises ``TransientError`` if the JobManager does not answer, and ``PermanentError`` if it
    refuses, such as for an unknown job.
    """

    def __init__(self, url: str) -> None:
        """Create a client; ``url`` is ``http://HOST:8081``, plus the cluster's path behind a proxy."""
        self._url = url.rstrip("/")

    def find(self, name: str) -> str | None:
        """The id of the newest job with a name, or None."""
        jobs = self._ask("GET", "jobs/overview")["jobs"]
        named = [job for job in jobs if job["name"] == name]
        return str(max(named, key=lambda job: job["start-time"])["jid"]) if named else None

    def state(self, job: str) -> str:
        """One of Flink's states: RUNNING, RESTARTING, FINISHED and so on."""
        return str(self._ask("GET", f"jobs/{job}")["state"])

    def cancel(self, job: str) -> None:
        """Cancel a job without a savepoint; unacknowledged messages are read again by the next one."""
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
        yield f"`launcher: flink` needs `launcher_config: {_MASTER}=http://HOST:8081`."
    for name in sorted(set(config) & set(_FORBIDDEN)):
        yield f"`launcher_config: {name}`: the launcher sets that itself."


def open_launcher(directory: Path, config: Mapping[str, str]) -> FlinkLauncher:
    """See :class:`resubmit_api.launchers.LauncherModule`."""
    return FlinkLauncher(SubprocessLauncher(directory), config)


class FlinkLauncher:
    """Runs the lanes of a job on a cluster; see :class:`resubmit_api.launchers.Launcher`.

    A process on this machine plans, submits, and keeps the job's row while Flink works. Another launcher
    starts it with Flink as its runner. If that process is lost, its Flink job is ended before the next
    process continues with the rest.
    """

    def __init__(self, processes: Launcher, options: Mapping[str, str]) -> None:
        """Start the local processes with ``processes``.

        Args:
            processes: starts ``persistor resubmit``.
            options: Beam options: ``flink_master``, the JobManager's address, and others that the cluster
                needs, such as ``environment_type``.

        Raises:
            ConfigurationError: ``flink_master`` is missing, or the launcher sets an option itself.
        """
        if found := list(problems(options)):
            raise ConfigurationError(found)
        self._processes, self._options = processes, dict(options)
        master = options[_MASTER]
        self._rest = FlinkRest(master if "://" in master else f"http://{master}")

    def start(self, job: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Start a job; see :class:`resubmit_api.launchers.Launcher`."""
        name = f"persistor-{job}"
        try:
            self._end(name)
        except PermanentError as error:
            raise TransientError(f"the Flink job of an earlier process cannot be ended: {error}") from error
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
            raise TransientError("it is still ending")


def cause(stack: str) -> str:
    """The innermost cause in a Java stack trace, which is the worker's own error."""
    causes = stack.split("Caused by: ")
    # A cause without its own stack trace adds details to the one below it, such as the address.
    first = -2 if len(causes) > 1 and "\n\t" not in causes[-2] else -1
    lines = [line for text in causes[first:] for line in text.splitlines()]
    return "\n".join(line for line in lines if line.strip() and not line[0].isspace())[-_SHOWN:]
