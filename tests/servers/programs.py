"""Programs that check what deploys Persistor or are part of it, most of them built from Go modules once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.servers import SERVERS, fetch_once, run, tool

__all__ = ["BOOT", "COMPOSE", "HELM", "PROVIDER", "TERRAFORM", "Program"]


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

    def source(self) -> Path:
        """The module as published."""
        go = tool("go", "see https://go.dev/doc/install")
        run([go, "mod", "download", self.module], cwd=SERVERS)
        told = subprocess.run(
            [go, "mod", "download", "-json", self.module], cwd=SERVERS, capture_output=True, check=True
        )
        return Path(json.loads(told.stdout)["Dir"])

    def _build(self, target: Path) -> None:
        self._compile(self.source(), target)

    def _compile(self, source: Path, target: Path) -> None:
        # Inside of its own module it is built as its makers build it, with their versions of what it uses.
        go = tool("go", "see https://go.dev/doc/install")
        flags = ["-trimpath", "-ldflags=-s", "-o", str(target / self.name)]
        run([go, "build", *flags, self.package], cwd=source, env={**os.environ, "CGO_ENABLED": "0"})


class _Installed(Program):
    """One that a wheel may have brought, or this machine has already."""

    def install(self) -> Path:
        """The program's path, that of this environment or machine where there is one."""
        places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        found = shutil.which(self.name, path=places)
        return Path(found) if found else super().install()


class _Provider(Program):
    """Google's provider with the services that ours is made of; all 175 of them take ten times as long."""

    _KEPT = ("kms", "pubsub", "resourcemanager", "secretmanager", "storage")

    def _build(self, target: Path) -> None:
        # The provider of beta resources, which no registry of modules has, is the same but for those.
        (target / f"{self.name}-beta").symlink_to(self.name)
        source = target / "source"
        shutil.copytree(self.source(), source, copy_function=shutil.copyfile)
        for folder in (source, *(path for path in source.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        listed = source / "google" / "provider" / "provider_register_services.go"
        others = rf'\t_ ".*/services/(?!({"|".join(self._KEPT)})")\w+"\n'
        listed.write_text(re.sub(others, "", listed.read_text()))
        self._compile(source, target)
        shutil.rmtree(source)


HELM = _Installed("helm", "helm.sh/helm/v3@v3.18.4", "./cmd/helm")
COMPOSE = Program("docker-compose", "github.com/docker/compose/v2@v2.40.3", "./cmd")
TERRAFORM = _Installed("terraform", "github.com/hashicorp/terraform@v1.5.7", ".")
PROVIDER = _Provider(
    "terraform-provider-google",
    "github.com/hashicorp/terraform-provider-google@v1.20.1-0.20260828184646-f3721fb45fa3",
    ".",
)
"""8.0.0, by the number that Go gives its commit."""
BOOT = Program("boot", "github.com/apache/beam/sdks/v2@v2.77.0", "./python/container")
"""What starts the workers in Beam's images."""
