"""Runs a streaming job: in this process, in several, or on the runner in Beam's options."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypeVar

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from pipelines.connections import addresses, check
from pipelines.runners.in_process import Build, run_here, serve_metrics
from pipelines.runners.processes import run_processes
from pipelines.runners.signals import stopped_by_signals
from pipelines.settings.runner import IN_PROCESS
from pipelines.settings.streaming import IndexSettings, PersistSettings, Streaming
from pipelines.terminal.text import begun, ended
from transforms import stop
from transforms.errors import PermanentError
from transforms.metrics.workers import Exposition

__all__ = ["distant_runner", "run_streaming"]

_log = logging.getLogger(__name__)

_MAX_ERROR_TEXT = 2000
_S = TypeVar("_S", PersistSettings, IndexSettings)


def run_streaming(build: Build[_S], settings: _S, beam_arguments: Sequence[str]) -> int:
    """Run a streaming job until it is asked to stop: here, or on the runner in the arguments.

    Raises:
        PersistorError: why the job could not start or had to stop.
    """
    options = PipelineOptions([*beam_arguments, "--streaming"])
    if options.view_as(StandardOptions).runner not in IN_PROCESS:
        return _run_elsewhere(build, settings, options)
    if settings.processes == 1:
        serve_metrics(
            settings
        )  # also while it waits for a server: it is alive, and its metrics name the server
    with stopped_by_signals(stop.stop):  # also between the check and what follows it
        check(settings)
        _log.info(begun(settings))
        if settings.processes == 1:
            left, code = run_here(build, settings, beam_arguments), 0
        else:
            left, code = {}, run_processes(settings, beam_arguments)
    if code == 0:
        _log.info(ended(settings, left))
    return code


def _run_elsewhere(build: Build[_S], settings: _S, options: PipelineOptions) -> int:
    """Submit, and wait for the end unless ``--no_wait_until_finish`` is set."""
    named = str(options.view_as(StandardOptions).runner)
    try:
        with beam.Pipeline(distant_runner(options), options) as pipeline:
            build(pipeline, settings, range(settings.shards), settings.shards, _exposition(settings, named))
    except (RuntimeError, OSError) as error:  # Beam's exceptions for a failed job or an unreachable cluster
        raise PermanentError(f"{named}: {str(error).strip()[:_MAX_ERROR_TEXT]}") from error
    return 0


def _exposition(settings: Streaming, runner: str) -> Exposition | None:
    """The metrics that workers serve; none on Dataflow, which shows Beam's counters itself."""
    if runner.endswith("DataflowRunner"):
        return None
    urls, configs = addresses(settings)
    return Exposition(settings.command, settings.metrics_host, settings.metrics_port, urls, configs)


def distant_runner(options: PipelineOptions) -> Any:
    """The runner in the options, or one that only writes the job's jar if they request that."""
    named = str(options.view_as(StandardOptions).runner)
    if named.rpartition(".")[2] != "FlinkRunner":
        return named
    from pipelines.runners import flink  # noqa: PLC0415 - its options exist only for Flink

    return flink.choose_runner(options)
