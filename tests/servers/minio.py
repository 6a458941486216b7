"""MinIO: S3 on a local disk, built from its Go module (minutes the first time)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import requests

from tests._traits import StoreTrait
from tests.servers import fetch_once, run, tool
from tests.servers._s3 import PASSWORD, REGION, USER, S3Server

__all__ = ["MinIO"]

_MODULE = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
_DIRECTORY = "minio-" + _MODULE.rpartition("-")[2]


class MinIO(S3Server):
    """What it confirmed survives ``kill``."""

    name: ClassVar[str] = "minio"
    lacks: ClassVar[Mapping[StoreTrait, str]] = {}

    @classmethod
    def install(cls) -> None:
        """Build the program from its module."""
        fetch_once(_DIRECTORY, _build)

    def command(self) -> Sequence[str]:
        """One drive, no console to the outside."""
        program = fetch_once(_DIRECTORY, _build) / "minio"
        listen = ["--address", f"127.0.0.1:{self.port}", "--console-address", "127.0.0.1:0"]
        return [str(program), "server", str(self.data / "drive"), "--quiet", *listen]

    def environment(self) -> Mapping[str, str]:
        """The only user."""
        return {
            "MINIO_ROOT_USER": USER,
            "MINIO_ROOT_PASSWORD": PASSWORD,
            "MINIO_REGION": REGION,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }

    def answers(self) -> bool:
        """Whether it says that it can read and write."""
        return requests.get(f"{self.url}/minio/health/cluster", timeout=2).status_code == 200


def _build(target: Path) -> None:
    go = tool("go", "see https://go.dev/doc/install")
    environment = {"GOBIN": str(target), "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -trimpath -ldflags=-s"}
    run([go, "install", _MODULE], cwd=target, env={**os.environ, **environment})
