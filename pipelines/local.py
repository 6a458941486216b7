"""Streaming jobs on one machine: Beam's in-process runner with its quirks, processes and signals.

The runner is named explicitly: ``DirectRunner`` may try to download another one first, and
with more than one worker it loses records of an unbounded splittable DoFn.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner, fn_runner

from pipelines import startup
from pipelines.settings import IndexSettings, PersistSettings, connections
from pipelines.signals import stopped_by_signals
from transforms import metrics, stop, surroundings
from transforms.errors import PermanentError, PersistorError
from transforms.read_batches import close_shards

__all__ = ["distant_runner", "in_process_runner", "run_streaming"]

_log = logging.getLogger(__name__)

_LOCAL_RUNNERS = {None, "DirectRunner", "FnApiRunner"}
_TOLD = 2000
_GC_THRESHOLDS = 200_000, 50, 1000
_Settings = PersistSettings | IndexSettings


class _Build(Protocol):
    def __call__(self, pipeline: beam.Pipeline, settings: Any, shards: Sequence[int], of: int) -> None: ...


def run_streaming(build: _Build, settings: _Settings, beam_arguments: Sequence[str]) -> int:
    """Run a streaming job until it is told to stop: here, or on the runner that the arguments name.

    Raises:
        PersistorError: why the job could not start or had to stop.
    """
    options = PipelineOptions([*beam_arguments, "--streaming"])
    if options.view_as(StandardOptions).runner not in _LOCAL_RUNNERS:
        return _run_elsewhere(build, settings, options)
    with stopped_by_signals(stop.stop):
        startup.check(settings)
    _log.info(startup.begun(settings))
    run = _run_here if settings.processes == 1 else _run_processes
    code = run(build, settings, beam_arguments)
    if code == 0:
        _log.info(startup.ended(settings))
    return code


def _run_elsewhere(build: _Build, settings: _Settings, options: PipelineOptions) -> int:
    """Submit, and wait for the end unless the options say ``--no_wait_until_finish``."""
    named = str(options.view_as(StandardOptions).runner)
    try:
        with beam.Pipeline(distant_runner(options), options) as pipeline:
            build(pipeline, settings, range(settings.shards), settings.shards)
    except (RuntimeError, OSError) as error:  # Beam's words for a job that failed or a cluster away
        raise PermanentError(f"{named}: {str(error).strip()[:_TOLD]}") from error
    return 0


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


def _run_here(build: _Build, settings: _Settings, beam_arguments: Sequence[str]) -> int:
    metrics.serve(settings.metrics_port, settings.metrics_host)
    surroundings.watch(settings.command, *connections(settings))
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
    return 0


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


def _run_processes(build: _Build, settings: _Settings, beam_arguments: Sequence[str]) -> int:
    """One process per shard. Spawned: librdkafka and gRPC do not survive a fork."""
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_run_one, args=(build, settings, tuple(beam_arguments), number))
        for number in range(settings.processes)
    ]
    with stopped_by_signals(lambda: _forward(processes)):
        for process in processes:
            process.start()
        _wait(processes)
    return max(abs(process.exitcode or 0) for process in processes)


def _wait(processes: Sequence[BaseProcess]) -> None:
    # Each is asked once a round: one that ends meanwhile must not leave nobody to wait for, for ever.
    while running := [process.sentinel for process in processes if process.exitcode is None]:
        connection.wait(running)
        if any(process.exitcode for process in processes):
            _forward(processes)  # a job with a shard missing must be seen to fail


def _run_one(build: _Build, settings: _Settings, beam_arguments: Sequence[str], number: int) -> None:
    try:
        code = _run_here(build, _shard_of(settings, number), beam_arguments)
    except PersistorError as error:
        sys.stderr.write(f"persistor {settings.command}, process {number}: {error}\n")
        code = 1
    sys.exit(code)


def _shard_of(settings: _Settings, number: int) -> _Settings:
    port = settings.metrics_port
    return replace(settings, shard=(number, settings.processes), metrics_port=port + number if port else 0)


def _forward(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        if process.is_alive():
            process.terminate()
