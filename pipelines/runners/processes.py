"""``--processes``: the shards of a streaming job, one process each."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from multiprocessing import connection
from multiprocessing.process import BaseProcess

from pipelines.runners.signals import stopped_by_signals
from pipelines.settings.runner import leave_out_clouds
from pipelines.settings.streaming import StreamingSettings
from transforms import stop
from transforms.errors import PersistorError

__all__ = ["run_processes"]


def run_processes(settings: StreamingSettings, beam_arguments: Sequence[str]) -> int:
    """Run ``settings.processes`` shards until they are told to stop; one that fails stops the others.

    Returns:
        The exit code: 0 after a clean stop of all, 1 where one was killed.
    """
    # Spawned: librdkafka and gRPC do not survive a fork.
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_run_one, args=(settings, tuple(beam_arguments), number))
        for number in range(settings.processes)
    ]
    told = threading.Event()

    def stop_all() -> None:
        told.set()
        for process in processes:
            if process.is_alive():
                process.terminate()

    with stopped_by_signals(stop_all):
        for process in processes:
            process.start()
        # Asked before the exit codes: a sentinel is ready some time before its process has one.
        while running := [process for process in processes if process.exitcode is None]:
            # A job with a shard missing must be seen to fail; a second signal would cut the others short.
            if not told.is_set() and any(process.exitcode for process in processes):
                stop_all()
            connection.wait([process.sentinel for process in running])
    return max(_code_of(settings.command, number, process) for number, process in enumerate(processes))


def _code_of(command: str, number: int, process: BaseProcess) -> int:
    code = process.exitcode or 0
    if code < 0:  # it could not say so itself
        sys.stderr.write(f"persistor {command}, process {number}: killed by {signal.Signals(-code).name}\n")
    return 1 if code < 0 else code


def _run_one(settings: StreamingSettings, beam_arguments: Sequence[str], number: int) -> None:
    threading.Thread(target=_outlive_nobody, daemon=True).start()
    leave_out_clouds()
    # Beam is loaded only behind that.
    in_process, job = (
        import_module("pipelines.runners.in_process"),
        import_module(f"pipelines.{settings.command}"),
    )
    shard = _shard_of(settings, number)
    try:
        in_process.serve_metrics(shard)
        in_process.run_here(job.build, shard, beam_arguments)
    except PersistorError as error:
        sys.stderr.write(f"persistor {settings.command}, process {number}: {error}\n")
        sys.exit(error.exit_code)


def _outlive_nobody() -> None:
    """Stop in good order once the command is gone: whatever starts it anew starts all its shards anew."""
    command = multiprocessing.parent_process()
    if command is not None:
        command.join()
        stop.stop()


def _shard_of(settings: StreamingSettings, number: int) -> StreamingSettings:
    port = settings.metrics_port
    return replace(settings, shard=(number, settings.processes), metrics_port=port + number if port else 0)
