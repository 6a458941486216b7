"""The batch job that sends archived messages again: plan, publish on Beam, report."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines.settings import ResubmitSettings
from transforms import registry
from transforms.brokers import Destination
from transforms.errors import ConfigurationError, TransientError, retry
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.replay import Options, Plan, Progress, Report, freeze_plan, make_plan
from transforms.replay.ledger import total
from transforms.replay.plans import load_plan
from transforms.resubmit import ResubmitLanes
from transforms.selection import parse_selection
from transforms.stop import failure

__all__ = ["plan", "run"]

_LOCAL_RUNNERS = {None, "DirectRunner", "FnApiRunner"}
_COLLECT = 200_000, 50, 1000
_TOLD_EVERY = 0.5
_PATIENCE = 60.0


def plan(settings: ResubmitSettings) -> Plan:
    """Find out what the job would do; see :func:`transforms.replay.make_plan`.

    Raises:
        ConfigurationError: something in the settings cannot be right.
        TransientError: index or broker stayed away for a minute.
    """
    return _planned(settings, make_plan)


def run(
    settings: ResubmitSettings,
    beam_args: Sequence[str] = (),
    *,
    on_plan: Callable[[Plan], object] = lambda _plan: None,
    progress: Progress = lambda _published, _failed, _planned: None,
) -> Report:
    """Publish what is selected, or the rest of the job that ``settings.resume`` names.

    Args:
        settings: of the command.
        beam_args: for Beam; without a runner among them the job runs in this process.
        on_plan: told the stored plan before anything is sent.
        progress: told messages published, failed and planned; from a thread of its own.

    Raises:
        ConfigurationError: the plan has problems, or something in the settings cannot be right.
        TransientError: index, lake or broker stayed away for a minute while planning.
    """
    # The allocator that Arrow prefers keeps what planning has freed; this one gives it back.
    pa.set_memory_pool(pa.system_memory_pool())
    lakes = _lakes(settings)
    stored = _resumed(settings, lakes[0]) if settings.resume else _planned(settings, freeze_plan)
    pa.default_memory_pool().release_unused()
    on_plan(stored)
    report = Report(job=stored.job, destination=stored.topic, planned=stored.messages)
    earlier, started = total(lakes[0], stored), time.monotonic()
    with _watched(lakes[0], stored, progress):
        _publish(settings, stored, beam_args)
    report.settle(total(lakes[0], stored), earlier, time.monotonic() - started)
    return report


def _publish(settings: ResubmitSettings, stored: Plan, beam_args: Sequence[str]) -> None:
    options = PipelineOptions(list(beam_args))
    named = options.view_as(StandardOptions).runner
    # Beam's many objects make every full collection slow, and none of them goes away.
    gc.freeze()
    gc.set_threshold(*_COLLECT)
    # Named explicitly: Beam's DirectRunner may fetch another runner's program first.
    pipeline = beam.Pipeline(FnApiRunner() if named in _LOCAL_RUNNERS else named, options)
    lanes = ResubmitLanes(stored, settings.lakes, settings.lake_config, settings.destination_config)
    _ = pipeline | "Resubmit" >> lanes
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        # Runners hand on only the text of what a worker raised.
        if (cause := failure()) is not None:
            raise cause from error
        raise


def _planned(settings: ResubmitSettings, how: Callable[..., Plan]) -> Plan:
    index, lakes = registry.index(settings.index).open(settings.index), _lakes(settings)
    try:
        destination = retry(lambda: _look_up(settings), "look up the destination", give_up_after=_PATIENCE)
        return retry(lambda: _call(how, settings, index, lakes, destination), "plan", give_up_after=_PATIENCE)
    finally:
        index.close()


def _call(
    how: Callable[..., Plan],
    settings: ResubmitSettings,
    index: Index,
    lakes: Sequence[Lake],
    destination: Destination,
) -> Plan:
    return how(
        index,
        lakes,
        parse_selection(settings.selection or ""),
        url=settings.destination,
        destination=destination,
        options=Options(settings.timestamp, settings.partitions, settings.lossy),
    )


def _look_up(settings: ResubmitSettings) -> Destination:
    url = settings.destination or ""
    publisher = registry.broker(url).open_publisher(url, settings.destination_config)
    try:
        return publisher.destination()
    finally:
        publisher.close()


def _resumed(settings: ResubmitSettings, lake: Lake) -> Plan:
    stored = load_plan(lake, settings.resume or "")
    if settings.destination not in {None, stored.destination}:
        raise ConfigurationError(
            f"Job {stored.job} sends to {stored.destination}: leave out --destination or start a new job."
        )
    return stored


def _lakes(settings: ResubmitSettings) -> list[Lake]:
    return [Lake(url, settings.lake_config) for url in settings.lakes]


@contextlib.contextmanager
def _watched(lake: Lake, stored: Plan, progress: Progress) -> Iterator[None]:
    """Tell the progress that the lanes, wherever they run, keep in the lake."""
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(lake, stored, progress, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(lake: Lake, stored: Plan, progress: Progress, ended: threading.Event) -> None:
    while not ended.wait(_TOLD_EVERY):
        _tell(lake, stored, progress)
    _tell(lake, stored, progress)


def _tell(lake: Lake, stored: Plan, progress: Progress) -> None:
    try:
        tally = total(lake, stored)
    except TransientError:
        return  # the lanes wait the store out and say so; the next look tells more
    progress(tally.published, tally.done - tally.published, stored.messages)


if __name__ == "__main__":
    from pipelines.cli import main

    sys.exit(main(["resubmit", *sys.argv[1:]]))
