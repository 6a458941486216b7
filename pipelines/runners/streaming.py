"""Runs a streaming job: in this process, in several, or on the runner that Beam's options name."""

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

_TOLD = 2000
_S = TypeVar("_S", PersistSettings, IndexSettings)


def run_streaming(build: Build[_S], settings: _S, beam_arguments: Sequence[str]) -> int:
    """Run a streaming job until it is told to stop: here, or on the runner that the arguments name.

    Raises:
        PersistorError: why the job could not start or had to stop.
    """
    options = PipelineOptions([*beam_arguments, "--streaming"])
    if options.view_as(StandardOptions).runner not in IN_PROCESS:
        return _run_elsewhere(build, settings, options)
    if settings.processes == 1:
        serve_metrics(settings)  # also while it waits for what is away: it is alive, and says for what
    with stopped_by_signals(stop.stop):
        check(settings)
    _log.info(begun(settings))
    if settings.processes == 1:
        run_here(build, settings, beam_arguments)
        code = 0
    else:
        code = run_processes(settings, beam_arguments)
    if code == 0:
        _log.info(ended(settings))
    return code


def _run_elsewhere(build: Build[_S], settings: _S, options: PipelineOptions) -> int:
    """Submit, and wait for the end unless the options say ``--no_wait_until_finish``."""
    named = str(options.view_as(StandardOptions).runner)
    try:
        with beam.Pipeline(distant_runner(options), options) as pipeline:
            build(pipeline, settings, range(settings.shards), settings.shards, _exposition(settings, named))
    except (RuntimeError, OSError) as error:  # Beam's words for a job that failed or a cluster away
        raise PermanentError(f"{named}: {str(error).strip()[:_TOLD]}") from error
    return 0


def _exposition(settings: Streaming, runner: str) -> Exposition | None:
    """What workers serve; those of Dataflow are asked by nobody: the service shows Beam's counters."""
    if runner.endswith("DataflowRunner"):
        return None
    urls, configs = addresses(settings)
    return Exposition(settings.command, settings.metrics_host, settings.metrics_port, urls, configs)


def distant_runner(options: PipelineOptions) -> Any:
    """The runner that the options name, or one that only writes the job's jar where they ask for that."""
    named = str(options.view_as(StandardOptions).runner)
    if named.rpartition(".")[2] != "FlinkRunner":
        return named
    from pipelines.runners import flink  # noqa: PLC0415 - its options exist only where they are Flink's

    return flink.choose_runner(options)
