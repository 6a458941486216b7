"""Real servers for the tests: one module per server, all of one shape.

``Server`` runs one server process of its own on 127.0.0.1; ``install`` fetches what it needs into
``.servers/`` at the project's root. Use one as a context manager, or start and stop it by hand::

    with Kafka() as kafka:
        kafka.create_topic("orders", partitions=4)
        ...
        kafka.kill()
        kafka.start()
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, TypeVar

from tests.servers._install import SERVERS, Unavailable, fetch_once, run, tool

__all__ = [
    "SERVERS",
    "Cluster",
    "Server",
    "Unavailable",
    "fetch_once",
    "free_port",
    "run",
    "tool",
    "wait_until",
]


# Beside the server a guard waits on a pipe that ends with us, however we end, and then kills the group.
_GUARDED = """exec 3<&0
(trap '' TERM; cat <&3 >/dev/null; kill -9 -$$) &
exec "$@" </dev/null 3<&-
"""
_T = TypeVar("_T")
_C = TypeVar("_C", bound="Cluster")
_random = random.SystemRandom()
# What takes a second here may take twenty where others keep the processors busy.
_PATIENCE = 3
_given = set[int]()


class Server:
    """One server process with its own port, data directory and process group.

    A subclass gives ``name``, ``url``, ``command`` and ``answers``, and ``install`` and ``prepare``
    where it needs them.
    """

    name: ClassVar[str]
    start_seconds: ClassVar[float] = 60.0

    def __init__(self, data: Path | None = None, port: int | None = None) -> None:
        self._temporary = None if data else tempfile.TemporaryDirectory(prefix=f"{self.name}-")
        self.data = data or Path(self._temporary.name)  # type: ignore[union-attr]
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    @classmethod
    def install(cls) -> None:
        """Fetch what is missing; quick when nothing is, safe in several processes at once.

        Raises:
            Unavailable: this machine cannot have it.
        """

    @property
    def url(self) -> str:
        """Where a client of Persistor finds it."""
        raise NotImplementedError

    def command(self) -> Sequence[str]:
        """The command line of the server's process."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Ask the server something only a working one answers. An OSError counts as no."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Called before each start; ``data`` exists."""

    def environment(self) -> Mapping[str, str]:
        """Variables that the process gets besides ours."""
        return {}

    def start(self) -> None:
        """Start on ``port`` and return once it answers.

        Raises:
            Unavailable: it cannot be installed here.
            RuntimeError: it ended, or does not answer in ``start_seconds``; shows its log's end.
        """
        self.install()
        self.data.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARDED, "sh", *self.command()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment()},
                start_new_session=True,
            )
        try:
            wait_until(self._is_up, self.start_seconds, f"{self.name} to answer on port {self.port}")
        except BaseException:
            self.kill()
            raise

    def stop(self, seconds: float = 10.0) -> None:
        """End it by SIGTERM, and by SIGKILL where that takes longer than ``seconds``."""
        self.resume()
        self._signal(signal.SIGTERM)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to all of its processes, at once."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            assert self._process.stdin
            self._process.stdin.close()
        self._process = None

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """Kill it, and start it again once the block has ended, however that was."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def restart(self) -> None:
        """Stop, then start on the same port and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it; connections stay open and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo ``pause``."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it and remove its data if the directory was its own."""
        atexit.unregister(self.close)
        self.kill()
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def pid(self) -> int:
        """The process, which leads its own process group.

        Raises:
            RuntimeError: it does not run.
        """
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process.pid

    @property
    def log(self) -> Path:
        """What the server printed."""
        return self.data / f"{self.name}.log"

    def __enter__(self: _T) -> _T:
        try:
            self.start()  # type: ignore[attr-defined]
        except BaseException:
            self.close()  # type: ignore[attr-defined]
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.close()

    def _is_up(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            end = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.name} ended while starting:\n{end}")
        try:
            return self.answers()
        except OSError:
            return False

    def _signal(self, number: int) -> None:
        # A leader that was waited for may have given its number to somebody else.
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that nobody else of this run is given.

    Below the range from which the system takes the ports of outgoing connections: a client that
    keeps knocking at a stopped server's port could else be given that very port and meet itself.
    Of these each of pytest-xdist's workers has a share of its own, and none is given twice: a server
    that has not yet started, or was killed to be started again, finds its port free.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = _random.randrange(15_000 + worker, 32_000, workers)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port


def wait_until(condition: Callable[[], _T], seconds: float, what: str, pause: float = 0.05) -> _T:
    """Ask until the answer is true, and return it.

    Args:
        seconds: what should do on a machine of one's own; three times that is waited.

    Raises:
        TimeoutError: it was never true in that time; the message names ``what``.
    """
    seconds *= _PATIENCE
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(pause)


class Cluster:
    """Servers that are started and closed together; any one of them may be killed meanwhile."""

    members: Sequence[Server]

    def start(self) -> None:
        """Start all of them."""
        for member in self.members:
            member.start()

    def close(self) -> None:
        """Kill the members and remove their data."""
        for member in self.members:
            member.close()

    def __enter__(self: _C) -> _C:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
