"""moto: S3 in the memory of one process; quick to get and to start, gone with ``kill``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import requests

from tests._traits import StoreTrait
from tests.servers import fetch_once, run
from tests.servers._s3 import S3Server

__all__ = ["Moto"]

_VERSION = "5.2.5"
# Some of what it needs is compiled for one version of Python.
_DIRECTORY = f"moto-{_VERSION}-{sys.implementation.cache_tag}"
# One request at a time: moto looks for the object and stores it in two steps, without a lock.
_MAIN = """
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
run_simple("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app), threaded=False)
"""


class Moto(S3Server):
    """Takes any credentials."""

    name: ClassVar[str] = "moto"
    lacks: ClassVar[Mapping[StoreTrait, str]] = {
        StoreTrait.CREDENTIALS: "it takes any credentials",
        StoreTrait.SHORT_NAMES: "it takes names of any length",
        StoreTrait.DURABLE: "it keeps objects in its memory",
    }

    @classmethod
    def install(cls) -> None:
        """Install the wheel with what it needs, apart from our environment."""
        fetch_once(_DIRECTORY, _fetch)

    def command(self) -> Sequence[str]:
        """The server of moto, with one thread."""
        return [sys.executable, "-c", _MAIN, str(self.port)]

    def environment(self) -> Mapping[str, str]:
        """Its packages; and no wait for the cloud's metadata service."""
        packages = fetch_once(_DIRECTORY, _fetch)
        return {"PYTHONPATH": str(packages), "MOTO_CALL_RESET_API": "false"}

    def answers(self) -> bool:
        """Whether it lists its buckets."""
        return requests.get(self.url, timeout=2).status_code == 200


def _fetch(target: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--target", str(target), f"moto[s3,server]=={_VERSION}"], cwd=target)
