"""What our jobs need of Beam's Flink runner, set by itself; loaded only where Flink is named.

On Flink a bundle is done for good when the checkpoint behind it is complete, so that is when
messages are acknowledged at their broker.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.runners.portability.flink_runner import FlinkRunner
from apache_beam.runners.portability.flink_uber_jar_job_server import FlinkBeamJob, FlinkUberJarJobServer

__all__ = ["FlinkNeeds", "choose_runner", "problems"]


class FlinkNeeds(PipelineOptions):
    """Options of the Java runner, with the defaults that our jobs need instead of its own."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--checkpointing_interval", type=int, default=10_000)
        add("--max_bundle_time_mills", type=int, default=1000)
        for flag in (
            "finish_bundle_before_checkpointing",
            "externalized_checkpoints_enabled",
            "retain_externalized_checkpoints_on_cancellation",
        ):
            add(f"--{flag}", nargs="?", const=True, default=True, type=_flag)


def problems(words: Sequence[str]) -> Iterator[str]:
    """What of a streaming job's options for Beam would keep its messages from being acknowledged."""
    needs = PipelineOptions(list(words)).view_as(FlinkNeeds)
    if needs.checkpointing_interval <= 0:
        yield (
            f"--checkpointing_interval={needs.checkpointing_interval}: without checkpoints Flink never tells "
            "that work is done, and no message would be acknowledged; give milliseconds, or leave it out for "
            "10000."
        )
    if _has(words, "savepoint_path") and not _has(words, "job_endpoint"):
        yield (
            "--savepoint_path is not heeded by a job that is submitted as a jar: write the jar with "
            "--output_executable_path and run it from there, flink run --fromSavepoint PLACE JAR."
        )
    if not needs.finish_bundle_before_checkpointing:
        yield (
            "--finish_bundle_before_checkpointing=false: a checkpoint within a bundle can leave shards that "
            "are never read again, while the job runs and its checkpoints succeed; leave it out."
        )


def _has(words: Sequence[str], name: str) -> bool:
    return any(word.partition("=")[0] == f"--{name}" for word in words)


def choose_runner(options: PipelineOptions) -> FlinkRunner:
    """Beam's runner, or one that writes the job's jar where ``--output_executable_path`` is given."""
    # Submitted as a jar, a job needs no Java here, and no job server that lives as long as it waits.
    options.view_as(FlinkRunnerOptions).flink_submit_uber_jar = True
    if not options.view_as(PortableOptions).output_executable_path:
        return FlinkRunner()
    options.view_as(StandardOptions).no_wait_until_finish = True  # nothing runs
    return _Packer()


class _Packer(FlinkRunner):
    """Writes the jar that would be uploaded. Beam's own way to write it takes a job server, and so Java."""

    def default_job_server(self, options: PipelineOptions) -> FlinkUberJarJobServer:
        options.view_as(FlinkRunnerOptions).flink_master = "[auto]"
        return _PackingServer("", options)


class _PackingServer(FlinkUberJarJobServer):
    def create_beam_job(self, job_id: str, job_name: str, pipeline: Any, options: Any) -> FlinkBeamJob:
        return _PackingJob("", self.executable_jar(), job_id, job_name, pipeline, options)


class _PackingJob(FlinkBeamJob):
    def run(self) -> None:
        self._stop_artifact_service()
        shutil.move(self._jar, self._pipeline_options["beam:option:output_executable_path:v1"])


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise argparse.ArgumentTypeError("write true or false")
    return text.lower() == "true"
