"""Streaming jobs on one machine: Beam's in-process runner with its quirks, and signals.

The runner is named explicitly: ``DirectRunner`` may try to download another one first, and
with more than one worker it loses records of an unbounded splittable DoFn.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner, fn_runner

from pipelines import startup
from pipelines.in_process import IN_PROCESS
from pipelines.processes import run_processes
from pipelines.settings import IndexSettings, PersistSettings, connections
from pipelines.signals import stopped_by_signals
from transforms import metrics, stop, surroundings
from transforms.errors import PermanentError
from transforms.exposition import Exposition
from transforms.read_batches import close_shards

__all__ = ["distant_runner", "in_process_runner", "run_here", "run_streaming", "serve_metrics"]

_log = logging.getLogger(__name__)

_TOLD = 2000
_GC_THRESHOLDS = 200_000, 50, 1000
_Settings = PersistSettings | IndexSettings


class _Build(Protocol):
    def __call__(
        self,
        pipeline: beam.Pipeline,
        settings: Any,
        shards: Sequence[int],
        of: int,
        exposition: Exposition | None = None,
    ) -> None: ...


def run_streaming(build: _Build, settings: _Settings, beam_arguments: Sequence[str]) -> int:
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
        startup.check(settings)
    _log.info(startup.begun(settings))
    if settings.processes == 1:
        run_here(build, settings, beam_arguments)
        code = 0
    else:
        code = run_processes(settings, beam_arguments)
    if code == 0:
        _log.info(startup.ended(settings))
    return code


def _run_elsewhere(build: _Build, settings: _Settings, options: PipelineOptions) -> int:
    """Submit, and wait for the end unless the options say ``--no_wait_until_finish``."""
    named = str(options.view_as(StandardOptions).runner)
    try:
        with beam.Pipeline(distant_runner(options), options) as pipeline:
            build(pipeline, settings, range(settings.shards), settings.shards, _exposition(settings, named))
    except (RuntimeError, OSError) as error:  # Beam's words for a job that failed or a cluster away
        raise PermanentError(f"{named}: {str(error).strip()[:_TOLD]}") from error
    return 0


def _exposition(settings: _Settings, runner: str) -> Exposition | None:
    """What workers serve; those of Dataflow are asked by nobody: the service shows Beam's counters."""
    if runner.endswith("DataflowRunner"):
        return None
    urls, configs = connections(settings)
    return Exposition(settings.command, settings.metrics_host, settings.metrics_port, urls, configs)


def distant_runner(options: PipelineOptions) -> Any:
    """The runner that the options name, or one that only writes the job's jar where they ask for that."""
    named = str(options.view_as(StandardOptions).runner)
    if named.rpartition(".")[2] != "FlinkRunner":
        return named
    from pipelines import flink  # noqa: PLC0415 - its options exist only where they are Flink's

    return flink.choose_runner(options)


def in_process_runner() -> FnApiRunner:
    """Beam's in-process runner, fit for jobs that run for months."""
    # It nests one lazy generator per bundle: a leak of 25 kB each, and a RecursionError in the end.
    fn_runner.consolidate_monitoring_infos = _as_list(fn_runner.monitoring_infos.consolidate)
    return FnApiRunner()


def _as_list(consolidate: Callable[..., Iterator[Any]]) -> Callable[..., list[Any]]:
    return lambda *arguments: list(consolidate(*arguments))


def run_here(build: _Build, settings: _Settings, beam_arguments: Sequence[str]) -> None:
    """Run one shard in this process until it is told to stop.

    Raises:
        PersistorError: why the job had to stop.
    """
    options = PipelineOptions([*beam_arguments, "--streaming", "--runner=FnApiRunner"])
    pipeline = beam.Pipeline(runner=in_process_runner(), options=options)
    number, of = settings.shard
    build(pipeline, settings, [number], of)
    # Beam's own objects are many and live as long as the process: collecting them again and again
    # costs a third of the rate.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_news)
    with stopped_by_signals(stop.stop):
        _run(pipeline)


def serve_metrics(settings: _Settings) -> None:
    """Show this process's metrics to Prometheus; once in a process.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    metrics.serve(settings.metrics_port, settings.metrics_host)
    surroundings.watch(settings.command, *connections(settings))


def _is_news(record: logging.LogRecord) -> bool:
    """Beam logs a failed bundle with its stack; why a job of ours failed is told once, at its end."""
    return not (record.name.startswith("apache_beam") and stop.failure())


def _run(pipeline: beam.Pipeline) -> None:
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        failure = stop.failure()
        if failure is None:
            raise
        raise failure from error
    finally:
        close_shards()
