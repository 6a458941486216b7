"""Programs that check what deploys Persistor or are part of it, built from Go modules the first time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.servers import fetch_once, run, tool

__all__ = ["BOOT", "COMPOSE", "HELM", "TERRAFORM", "Program"]


@dataclass(frozen=True)
class Program:
    """One program.

    Attributes:
        module: its Go module with the version.
        package: the package in it that is the program.
    """

    name: str
    module: str
    package: str

    def install(self) -> Path:
        """The program's path, built where it is missing.

        Raises:
            Unavailable: it cannot be built here.
        """
        return fetch_once(f"{self.name}-{self.module.rpartition('@v')[2]}", self._build) / self.name

    def _build(self, target: Path) -> None:
        # Inside of its own module it is built as its makers build it, with their versions of what it uses.
        go = tool("go", "see https://go.dev/doc/install")
        run([go, "mod", "download", self.module], cwd=target)
        told = subprocess.run(
            [go, "mod", "download", "-json", self.module], cwd=target, capture_output=True, check=True
        )
        source = json.loads(told.stdout)["Dir"]
        flags = ["-trimpath", "-ldflags=-s", "-o", str(target / self.name)]
        run([go, "build", *flags, self.package], cwd=Path(source), env={**os.environ, "CGO_ENABLED": "0"})


class _Installed(Program):
    """One that this machine may have already."""

    def install(self) -> Path:
        """The program's path, this machine's own where there is one."""
        found = shutil.which(self.name)
        return Path(found) if found else super().install()


HELM = Program("helm", "helm.sh/helm/v3@v3.18.4", "./cmd/helm")
COMPOSE = Program("docker-compose", "github.com/docker/compose/v2@v2.40.3", "./cmd")
TERRAFORM = _Installed("terraform", "github.com/hashicorp/terraform@v1.5.7", ".")
BOOT = Program("boot", "github.com/apache/beam/sdks/v2@v2.77.0", "./python/container")
"""What starts the workers in Beam's images."""
