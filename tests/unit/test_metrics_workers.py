"""Exposition: the workers of one machine have its first ports, whichever of them come and go."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from typing import Any

from tests._processes import spawned
from tests.integration.harness import metric
from tests.servers import free_port, wait_until

_WORKER = """
import sys
from transforms import metrics
from transforms.metrics import workers
workers._RETRY_SECONDS = 0.1
metrics.MESSAGES.labels(metrics.label(sys.argv[1])).inc(3)
worker = workers.Exposition("persist", "127.0.0.1", int(sys.argv[2]))
worker.begin()
worker.begin()
print("works", flush=True)
sys.stdin.read()
"""


def _worker(name: str, port: int) -> AbstractContextManager[subprocess.Popen[Any]]:
    command = [sys.executable, "-c", _WORKER, name, str(port)]
    return spawned(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _serves(name: str, port: int) -> None:
    wait_until(lambda: metric(port, "persistor_messages_total", source=name) == 3, 30, f"{name} on {port}")


def test_workers_take_the_next_free_port_and_move_down_when_one_has_ended() -> None:
    port = free_port()
    with _worker("first", port) as first:
        _serves("first", port)
        with _worker("second", port):
            _serves("second", port + 1)
            first.kill()
            _serves("second", port)
            with _worker("third", port):
                _serves("third", port + 1)


def test_the_work_goes_on_where_no_port_can_be_had_and_is_shown_once_there_is_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 65535))  # the only port of this range
        taken.listen()
        with _worker("late", 65535) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "works\n"
            taken.close()
            _serves("late", 65535)
