"""Runs jobs on Google Cloud Dataflow from a Flex template, through the service's typed client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from google.api_core import exceptions as api
from google.api_core.client_options import ClientOptions
from google.auth import exceptions as auth
from google.auth.credentials import Credentials
from google.cloud import dataflow_v1beta3 as dataflow

from resubmit_api.launchers import Launcher
from resubmit_api.launchers.subprocess import SubprocessLauncher
from transforms.errors import ConfigurationError, PermanentError, TransientError
from transforms.retry import retry

__all__ = ["ENDED", "DataflowJobs", "DataflowLauncher", "open_launcher", "problems"]

ENDED = frozenset({"DONE", "FAILED", "CANCELLED", "DRAINED", "UPDATED"})
"""The final states of a Dataflow job."""

_TRANSIENT = (
    api.TooManyRequests,
    api.ServerError,
    api.RetryError,
    auth.TransportError,
    requests.RequestException,
)
_SECONDS = 60.0
_ENDED_WITHIN = 300.0
_NEEDED = ("project", "region", "temp_location", "sdk_container_image")
_RESERVED = {"runner", "job_name", "streaming", "template_location", "dataflow_job_file"}


class DataflowJobs:
    """The jobs of one project and region. Thread-safe.

    Every method raises ``TransientError`` if the service does not answer, and ``PermanentError`` if it
    refuses, such as for an unknown job.
    """

    def __init__(
        self,
        project: str,
        region: str,
        *,
        endpoint: str | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Create a client; nothing is requested yet.

        Args:
            project: the project's id.
            region: such as ``europe-west1``.
            endpoint: of the service, if not Google's usual one.
            credentials: default: those of the environment.
        """
        self._place = {"project_id": project, "location": region}
        options = ClientOptions(api_endpoint=endpoint) if endpoint else None
        given = {"credentials": credentials, "client_options": options, "transport": "rest"}
        with _translated("sign in"):
            self._templates = dataflow.FlexTemplatesServiceClient(**given)
            self._jobs = dataflow.JobsV1Beta3Client(**given)

    def launch(
        self,
        template: str,
        name: str,
        parameters: Mapping[str, str],
        environment: Mapping[str, Any] | None = None,
    ) -> str:
        """Start a job from a template; an active job with this name counts as the result.

        Args:
            template: ``gs://…`` of the template's specification.
            name: of the job; unique among active jobs.
            parameters: of the template.
            environment: fields of ``FlexTemplateRuntimeEnvironment``, such as ``max_workers``.

        Returns:
            The job's id.
        """
        parameter = dataflow.LaunchFlexTemplateParameter(
            job_name=name,
            container_spec_gcs_path=template,
            parameters=dict(parameters),
            environment=dataflow.FlexTemplateRuntimeEnvironment(dict(environment or {})),
        )
        request = dataflow.LaunchFlexTemplateRequest(launch_parameter=parameter, **self._place)
        with _translated(f"launch {name}"):
            try:
                return str(self._templates.launch_flex_template(request, timeout=_SECONDS).job.id)
            except api.Conflict:
                # The answer to an earlier launch was lost: that launch succeeded.
                active = self.find(name)
                if active is None:
                    raise
                return active

    def find(self, name: str) -> str | None:
        """The id of the active job with a name, or None."""
        request = dataflow.ListJobsRequest(filter=dataflow.ListJobsRequest.Filter.ACTIVE, **self._place)
        with _translated("list the jobs"):
            found = [job.id for job in self._jobs.list_jobs(request, timeout=_SECONDS) if job.name == name]
        return str(found[0]) if found else None

    def state(self, job: str) -> str:
        """One of the service's states: ``RUNNING``, ``DRAINING``, ``DONE`` and so on."""
        request = dataflow.GetJobRequest(job_id=job, **self._place)
        with _translated(f"look up {job}"):
            found = self._jobs.get_job(request, timeout=_SECONDS)
        return str(found.current_state.name).removeprefix("JOB_STATE_")

    def drain(self, job: str) -> None:
        """Drain a streaming job: it stops reading and finishes what it has read."""
        self._request(job, dataflow.JobState.JOB_STATE_DRAINED)

    def cancel(self, job: str) -> None:
        """Cancel a job at once; unacknowledged messages are read again by the next one."""
        self._request(job, dataflow.JobState.JOB_STATE_CANCELLED)

    def _request(self, job: str, state: dataflow.JobState) -> None:
        wanted = dataflow.Job(requested_state=state)
        request = dataflow.UpdateJobRequest(job_id=job, job=wanted, **self._place)
        with _translated(f"change {job}"):
            self._jobs.update_job(request, timeout=_SECONDS)


def problems(config: Mapping[str, str]) -> Iterator[str]:
    """See :class:`resubmit_api.launchers.LauncherModule`."""
    for name in _NEEDED:
        if not config.get(name):
            yield f"`launcher: dataflow` needs `launcher_config: {name}=…`."
    for name in sorted(set(config) & _RESERVED):
        yield f"`launcher_config: {name}`: the launcher sets that itself."


def open_launcher(directory: Path, config: Mapping[str, str]) -> DataflowLauncher:
    """See :class:`resubmit_api.launchers.LauncherModule`."""
    return DataflowLauncher(SubprocessLauncher(directory), config)


class DataflowLauncher:
    """Runs the lanes of a job on Dataflow; see :class:`resubmit_api.launchers.Launcher`.

    A process on this machine plans, submits, and keeps the job's row while Dataflow works. Another launcher
    starts it with Dataflow as its runner. If that process is lost, its Dataflow job is ended before the next
    process continues with the rest.
    """

    def __init__(self, processes: Launcher, options: Mapping[str, str]) -> None:
        """Start the local processes with ``processes``.

        Args:
            processes: starts ``persistor resubmit``.
            options: Beam options: ``project``, ``region``, ``temp_location`` and ``sdk_container_image``, and
                others that the jobs need, such as ``subnetwork`` or ``max_num_workers``.

        Raises:
            ConfigurationError: one of those four is missing, or the launcher sets an option itself.
        """
        if found := list(problems(options)):
            raise ConfigurationError(found)
        self._processes, self._options = processes, dict(options)
        endpoint = options.get("dataflow_endpoint")
        self._jobs = DataflowJobs(options["project"], options["region"], endpoint=endpoint)

    def start(self, job: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Start a job; see :class:`resubmit_api.launchers.Launcher`."""
        name = f"persistor-{job}"
        try:
            self._end(name)
        except PermanentError as error:
            raise TransientError(
                f"the Dataflow job of an earlier process cannot be ended: {error}"
            ) from error
        given = {"runner": "DataflowRunner", "job_name": name}
        return self._processes.start(job, {**settings, **self._options, **given})

    def wait(self, run: Mapping[str, Any], seconds: float) -> str | None:
        """Wait for the process; see :class:`resubmit_api.launchers.Launcher`."""
        return self._processes.wait(run, seconds)

    def _end(self, name: str) -> None:
        id = self._jobs.find(name)
        if id is None:
            return
        self._jobs.cancel(id)
        retry(lambda: self._ended(id), f"cancel {name} on Dataflow", give_up_after=_ENDED_WITHIN)

    def _ended(self, id: str) -> None:
        if self._jobs.state(id) not in ENDED:
            raise TransientError("it is still ending")


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except _TRANSIENT as error:
        raise TransientError(f"Dataflow does not answer ({what}): {type(error).__name__}") from error
    except (api.GoogleAPICallError, auth.GoogleAuthError) as error:
        if getattr(error, "retryable", False):
            raise TransientError(f"Dataflow's credentials cannot be renewed now ({what}): {error}") from error
        raise PermanentError(f"Dataflow refused ({what}): {error}") from error
