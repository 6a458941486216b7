"""``--processes``: the shards of a streaming job, one process each."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import import_module
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess

from pipelines.runners.signals import stopped_by_signals
from pipelines.settings.runner import leave_out_clouds
from pipelines.settings.streaming import Streaming
from transforms import stop
from transforms.errors import PersistorError

__all__ = ["run_processes"]

_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def run_processes(settings: Streaming, beam_arguments: Sequence[str]) -> int:
    """Run ``settings.processes`` shards until they are asked to stop; if one fails, all others stop.

    Returns:
        The exit code: 0 after a clean stop of all, 1 if one was killed.
    """
    # Spawned: librdkafka and gRPC do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in range(settings.processes)]
    processes = [
        context.Process(target=_run_one, args=(settings, tuple(beam_arguments), number, theirs))
        for number, (theirs, _) in enumerate(pipes)
    ]

    def stop_all() -> None:
        for _, ours in pipes:
            ours.close()

    with stopped_by_signals(stop_all):
        if stop.stopping():  # since before there was anybody to tell
            stop_all()
        _start(processes)
        # Checked before the exit codes, because a sentinel is ready some time before its process has one.
        while running := [process for process in processes if process.exitcode is None]:
            # A job with a shard missing must be seen to fail.
            if any(process.exitcode for process in processes):
                stop_all()
            connection.wait([process.sentinel for process in running])
    return max(_code_of(settings.command, number, process) for number, process in enumerate(processes))


def _start(processes: Iterable[BaseProcess]) -> None:
    """Start them deaf to signals: one to the whole group is the command's alone to hand on.

    systemd sends SIGTERM to every process of a service, a terminal SIGINT to every one in front.
    """
    resource_tracker.ensure_running()  # which would lift the mask, where the first start began it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        for process in processes:
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _code_of(command: str, number: int, process: BaseProcess) -> int:
    code = process.exitcode or 0
    if code < 0:  # it could not report that itself
        sys.stderr.write(f"persistor {command}, process {number}: killed by {signal.Signals(-code).name}\n")
    return 1 if code < 0 else code


def _run_one(
    settings: Streaming, beam_arguments: Sequence[str], number: int, command: connection.Connection
) -> None:
    threading.Thread(target=_stop_with, args=(command,), daemon=True).start()
    leave_out_clouds()
    # Beam is loaded only behind that.
    in_process, job, text = (
        import_module("pipelines.runners.in_process"),
        import_module(f"pipelines.{settings.command}"),
        import_module("pipelines.terminal.text"),
    )
    shard = _shard_of(settings, number)
    try:
        in_process.serve_metrics(shard)
        if left := in_process.run_here(job.build, shard, beam_arguments):
            sys.stderr.write(f"persistor {settings.command}, process {number}: {text.waiting(left)}\n")
    except PersistorError as error:
        sys.stderr.write(f"persistor {settings.command}, process {number}: {error}\n")
        sys.exit(error.exit_code)


def _stop_with(command: connection.Connection) -> None:
    """Stop cleanly once the other end is closed: the command requests it, or is gone.

    Its restart starts all its shards again.
    """
    with contextlib.suppress(EOFError):
        command.recv()
    stop.stop()


def _shard_of(settings: Streaming, number: int) -> Streaming:
    port = settings.metrics_port
    return replace(settings, shard=(number, settings.processes), metrics_port=port + number if port else 0)
