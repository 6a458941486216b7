"""Beam's Flink runner with the options our jobs need; loaded only if Flink is used.

On Flink a bundle is final once the checkpoint after it is complete, so messages are acknowledged at their
broker then.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.portability.flink_runner import MAGIC_HOST_NAMES, FlinkRunner
from apache_beam.runners.portability.flink_uber_jar_job_server import FlinkBeamJob, FlinkUberJarJobServer

from resubmit_api.launchers.flink import cause
from transforms.errors import TransientError
from transforms.retry import retry

__all__ = ["choose_runner"]

_AWAY = 300.0
"""Seconds that a cluster may take until it knows a job again."""
_log = logging.getLogger(__name__)


def choose_runner(options: PipelineOptions) -> FlinkRunner:
    """A runner that submits the job's jar, or writes it if ``--output_executable_path`` is given."""
    # Submitted as a jar, a job needs neither Java here nor a job server that runs as long as it waits.
    options.view_as(FlinkRunnerOptions).flink_submit_uber_jar = True
    if not options.view_as(PortableOptions).output_executable_path:
        return _Submitter()
    options.view_as(StandardOptions).no_wait_until_finish = True  # nothing runs
    return _Packer()


class _Submitter(FlinkRunner):
    """Beam's runner with jobs that report failures, survive their JobManager and leave no jar behind."""

    def default_job_server(self, options: PipelineOptions) -> Any:
        flink = options.view_as(FlinkRunnerOptions)
        master = self.add_http_scheme(flink.flink_master)
        if master in MAGIC_HOST_NAMES:
            return super().default_job_server(options)
        flink.flink_master = "[auto]"  # for the job itself this is the cluster that runs it
        return _Server(master, options)


class _Server(FlinkUberJarJobServer):
    def __init__(self, master: str, options: PipelineOptions) -> None:
        super().__init__(master, options)
        self._slots = max(int(options.view_as(FlinkRunnerOptions).parallelism), 1)

    def create_beam_job(self, job_id: str, job_name: str, pipeline: Any, options: Any) -> FlinkBeamJob:
        job = _Job(self._master_url, self.executable_jar(), job_id, job_name, pipeline, options)
        job.slots = self._slots
        return job


class _Job(FlinkBeamJob):
    slots = 1
    _shown_failure = ""

    def run(self) -> None:
        try:
            self._warn_of_slots()
            super().run()
        finally:
            # The job no longer needs them.
            self.delete_jar()
            Path(self._jar).unlink(missing_ok=True)
        _log.info("Submitted to %s as job %s.", self._master_url, self._flink_job_id)

    def _warn_of_slots(self) -> None:
        overview = self.get("v1/overview")
        if overview["slots-available"] < self.slots:
            _log.warning(
                "Flink has %d of %d slots free and the job takes %d: waiting until they are free.",
                overview["slots-available"],
                overview["slots-total"],
                self.slots,
            )

    def _get_state(self) -> Any:
        return retry(self._ask_state, f"ask Flink for job {self._flink_job_id}", give_up_after=_AWAY)

    def _ask_state(self) -> Any:
        try:
            self._log_failure()
            return super()._get_state()
        except (requests.RequestException, RuntimeError) as error:
            # While another JobManager takes over, none answers, or one that does not know the job yet.
            raise TransientError(str(error)) from error

    def get_message_stream(self) -> Iterator[Any]:
        for message in super().get_message_stream():
            if isinstance(message, beam_job_api_pb2.JobMessage):
                message.message_text = cause(message.message_text)  # of thousands of lines
            yield message

    def _log_failure(self) -> None:
        answer = self.get(f"v1/jobs/{self._flink_job_id}/exceptions")
        history = answer.get("exceptionHistory", {}).get("entries", [])
        why = cause(history[0]["stacktrace"]) if history else ""
        if why and why != self._shown_failure:
            self._shown_failure = why
            _log.warning("a task of the job failed on Flink: %s", why)


class _Packer(FlinkRunner):
    """Writes the jar instead of uploading it; Beam's own way needs a job server, and so Java."""

    def default_job_server(self, options: PipelineOptions) -> FlinkUberJarJobServer:
        options.view_as(FlinkRunnerOptions).flink_master = "[auto]"
        return _PackingServer("", options)


class _PackingServer(FlinkUberJarJobServer):
    def __init__(self, master: str, options: PipelineOptions) -> None:
        super().__init__(master, options)
        self._version = options.view_as(FlinkRunnerOptions).flink_version

    def flink_version(self) -> str:
        return self._version  # there is no cluster to ask

    def create_beam_job(self, job_id: str, job_name: str, pipeline: Any, options: Any) -> FlinkBeamJob:
        return _PackingJob("", self.executable_jar(), job_id, job_name, pipeline, options)


class _PackingJob(FlinkBeamJob):
    def run(self) -> None:
        self._stop_artifact_service()
        shutil.move(self._jar, self._pipeline_options["beam:option:output_executable_path:v1"])
