"""Beam's in-process runner with workarounds, and one shard of a streaming job on it.

The runner is named explicitly: ``DirectRunner`` may try to download another one first, and
with more than one worker it loses records of an unbounded splittable DoFn.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner, fn_runner

from pipelines.connections import addresses
from pipelines.runners.signals import stopped_by_signals
from pipelines.settings.streaming import IndexSettings, PersistSettings, Streaming
from transforms import metrics, stop
from transforms.metrics import host
from transforms.metrics.workers import Exposition
from transforms.read_batches import close_shards

__all__ = ["Build", "in_process_runner", "keep_heap", "run_here", "serve_metrics"]

_Settings_contra = TypeVar("_Settings_contra", bound=Streaming, contravariant=True)
_S = TypeVar("_S", PersistSettings, IndexSettings)

_GC_THRESHOLDS = 200_000, 50, 1000


class Build(Protocol[_Settings_contra]):
    """Adds a streaming job to a pipeline: the shards of ``shards`` out of ``of``."""

    def __call__(
        self,
        pipeline: beam.Pipeline,
        settings: _Settings_contra,
        shards: Sequence[int],
        of: int,
        exposition: Exposition | None = None,
    ) -> None:
        """Add it; ``exposition`` describes the metrics that the runner's workers serve."""


def in_process_runner() -> FnApiRunner:
    """Beam's in-process runner, changed for jobs that run for months."""
    # It nests one lazy generator per bundle: a leak of 25 kB each, and a RecursionError in the end.
    fn_runner.consolidate_monitoring_infos = _as_list(fn_runner.monitoring_infos.consolidate)
    return FnApiRunner()


def _as_list(consolidate: Callable[..., Iterator[Any]]) -> Callable[..., list[Any]]:
    return lambda *arguments: list(consolidate(*arguments))


def keep_heap() -> None:
    """Exclude the objects loaded so far from garbage collection.

    Beam's own objects are many and live as long as the process; scanning them repeatedly costs a third of
    the rate.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def run_here(build: Build[_S], settings: _S, beam_arguments: Sequence[str]) -> Mapping[str, int]:
    """Run one shard in this process until it is asked to stop.

    Returns:
        Messages that wait at the broker then, by source, as far as known.

    Raises:
        PersistorError: why the job had to stop.
    """
    options = PipelineOptions([*beam_arguments, "--streaming", "--runner=FnApiRunner"])
    pipeline = beam.Pipeline(runner=in_process_runner(), options=options)
    number, of = settings.shard
    build(pipeline, settings, [number], of)
    keep_heap()
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_news)
    with stopped_by_signals(stop.stop):
        return _run(pipeline)


def serve_metrics(settings: Streaming) -> None:
    """Serve this process's metrics to Prometheus, once per process.

    Raises:
        ConfigurationError: the port is not available.
    """
    metrics.serve(settings.metrics_port, settings.metrics_host)
    host.watch(settings.command, *addresses(settings))


def _is_news(record: logging.LogRecord) -> bool:
    """Drop Beam's stack traces of failed bundles: a failure is reported once, at the end."""
    return not (record.name.startswith("apache_beam") and stop.failure())


def _run(pipeline: beam.Pipeline) -> Mapping[str, int]:
    left: Mapping[str, int] = {}
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        failure = stop.failure()
        if failure is None:
            raise
        raise failure from error
    finally:
        left = close_shards()
    return left
