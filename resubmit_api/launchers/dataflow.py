"""Runs jobs on Google Cloud Dataflow from a Flex template, through the service's typed client."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests
from google.api_core import exceptions as api
from google.api_core.client_options import ClientOptions
from google.auth import exceptions as auth
from google.auth.credentials import Credentials
from google.cloud import dataflow_v1beta3 as dataflow

from transforms.errors import PermanentError, TransientError

__all__ = ["ENDED", "DataflowJobs", "DataflowLauncher"]

ENDED = frozenset({"DONE", "FAILED", "CANCELLED", "DRAINED", "UPDATED"})
"""The states that a job of Dataflow does not leave."""

_AWAY = (
    api.TooManyRequests,
    api.ServerError,
    api.RetryError,
    auth.TransportError,
    requests.RequestException,
)
_SECONDS = 60.0
_ASK_EVERY = 10.0


class DataflowJobs:
    """The jobs of one project and region. Thread-safe.

    Every method raises ``TransientError`` while the service is away, and ``PermanentError`` where it
    refuses, such as for a job that it does not know.
    """

    def __init__(
        self,
        project: str,
        region: str,
        *,
        endpoint: str | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Ask nothing yet.

        Args:
            project: the project's id.
            region: such as ``europe-west1``.
            endpoint: of the service, where it is not Google's usual one.
            credentials: the environment's own unless given.
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
        """Start a job from a template; one of that name that is active already is taken for it.

        Args:
            template: ``gs://…`` of the template's specification.
            name: of the job; no two active ones have the same.
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
                # An answer that was lost on its way: the launch before this one has succeeded.
                active = self.find(name)
                if active is None:
                    raise
                return active

    def find(self, name: str) -> str | None:
        """The id of the active job of a name, None where there is none."""
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
        """End a streaming job in good order: it reads no more, and finishes what it has."""
        self._request(job, dataflow.JobState.JOB_STATE_DRAINED)

    def cancel(self, job: str) -> None:
        """End a job at once; what was not acknowledged is read again by the next one."""
        self._request(job, dataflow.JobState.JOB_STATE_CANCELLED)

    def _request(self, job: str, state: dataflow.JobState) -> None:
        wanted = dataflow.Job(requested_state=state)
        request = dataflow.UpdateJobRequest(job_id=job, job=wanted, **self._place)
        with _translated(f"change {job}"):
            self._jobs.update_job(request, timeout=_SECONDS)


class DataflowLauncher:
    """Launches the lanes of a planned resubmission; see :class:`resubmit_api.launchers.Launcher`."""

    def __init__(
        self, jobs: DataflowJobs, template: str, image: str, environment: Mapping[str, Any] | None = None
    ) -> None:
        """Use a project's jobs.

        Args:
            jobs: of the project and region to run in.
            template: ``gs://…`` of the template's specification.
            image: of the workers, the template's own.
            environment: see :meth:`DataflowJobs.launch`.
        """
        self._jobs, self._template, self._image = jobs, template, image
        self._environment = dict(environment or {})

    def start(self, job: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Launch; a second start of the same job finds the first one while it is active."""
        parameters = {
            "command": "resubmit",
            "sdk_container_image": self._image,
            "resume": job,
            "lake": json.dumps(list(settings["lake"])),
        }
        for name in ("lake_config", "destination_config"):
            if given := settings.get(name):
                parameters[name] = json.dumps([f"{key}={value}" for key, value in given.items()])
        id = self._jobs.launch(self._template, f"persistor-{job}", parameters, self._environment)
        return {"dataflow": id, "job": job}

    def wait(self, run: Mapping[str, Any], seconds: float) -> str | None:
        """Wait for the service to end the job; "" where it did all, None while it goes on."""
        deadline = time.monotonic() + seconds
        while (state := self._jobs.state(run["dataflow"])) not in ENDED:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(_ASK_EVERY, left))
        return "" if state == "DONE" else f"Dataflow ended its job {run['dataflow']}: {state.lower()}."


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except _AWAY as error:
        raise TransientError(f"Dataflow does not answer ({what}): {type(error).__name__}") from error
    except (api.GoogleAPICallError, auth.GoogleAuthError) as error:
        if getattr(error, "retryable", False):
            raise TransientError(f"Dataflow's credentials cannot be renewed now ({what}): {error}") from error
        raise PermanentError(f"Dataflow refused ({what}): {error}") from error
