"""Watches a process and those it started: time, CPU and memory while it works."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.servers import free_port

__all__ = ["PORT", "Figure", "Watched", "work"]

PORT = "{port}"
"""Stands for the metrics port in a command."""

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Figure:
    """What one run gave.

    Attributes:
        cpu: seconds of processor time of our processes, servers left out.
        memory: highest resident memory of them together, MB.
    """

    name: str
    messages: int
    seconds: float
    cpu: float
    memory: float
    note: str = ""

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds


class Watched:
    """One command, sampled from outside.

    Attributes:
        peak: highest resident memory so far, MB.
        used: processor seconds at the last sample, kept when it has ended.
        memory: time and resident memory, ten times a second.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.port = free_port()
        self.peak = 0.0
        self.used = 0.0
        self.memory: list[tuple[float, float]] = []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            [part.replace(PORT, str(self.port)) for part in command],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._watched = psutil.Process(self._process.pid)
        threading.Thread(target=self._sample, daemon=True).start()

    def cpu(self) -> float:
        """Processor seconds so far."""
        return sum(sum(one.cpu_times()[:2]) for one in self._family())

    def count(self, metric: str) -> int:
        """The sum of a counter over its labels, 0 where nobody answers yet."""
        try:
            page = requests.get(f"http://127.0.0.1:{self.port}/metrics", timeout=10).text
        except OSError:
            return 0
        return int(sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(metric)))

    def figure(self, name: str, count: Callable[[], int], messages: int) -> Figure:
        """Measure from the first message that counts to the last."""
        first = self._until(count, 1)
        started, cpu = time.monotonic(), self.cpu()
        last = self._until(count, messages)
        done = last - first
        return Figure(name, done, time.monotonic() - started, self.cpu() - cpu, self.peak)

    def output(self) -> str:
        """Wait for its end and return what it printed."""
        text = self._process.communicate(timeout=3600)[0].decode()
        if self._process.returncode:
            raise self._failure()
        return text

    def stop(self) -> None:
        """End it in good order."""
        self._process.terminate()
        self.output()

    def _until(self, count: Callable[[], int], least: int) -> int:
        while (now := count()) < least:
            if self._process.poll() is not None:
                raise self._failure()
            time.sleep(0.05)
        return now

    def _failure(self) -> RuntimeError:
        self._errors.seek(0)
        end = self._errors.read()[-2000:].decode(errors="replace")
        return RuntimeError(f"{self._process.args} ended with {self._process.returncode}: {end}")

    def _sample(self) -> None:
        while self._process.poll() is None:
            with contextlib.suppress(psutil.Error):
                now = sum(one.memory_info().rss for one in self._family()) / 1e6
                self.memory.append((time.monotonic(), now))
                self.peak = max(self.peak, now)
                self.used = self.cpu()
            time.sleep(0.1)

    def _family(self) -> Iterator[psutil.Process]:
        yield self._watched
        yield from self._watched.children(recursive=True)


def work(task: str, **arguments: Any) -> Watched:
    """One of :mod:`bench.work`'s tasks, in a process of its own."""
    return Watched([sys.executable, "-m", "bench.work", task, json.dumps(arguments), PORT])
