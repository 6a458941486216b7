"""A launcher that only writes down what it is asked to run."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transforms.errors import ConfigurationError

__all__ = ["open_launcher", "problems"]


def problems(config: Mapping[str, str]) -> Iterator[str]:
    if "ink" not in config:
        yield "`launcher: toylauncher` needs `launcher_config: ink=COLOUR`."


def open_launcher(directory: Path, config: Mapping[str, str]) -> ToyLauncher:
    if found := list(problems(config)):
        raise ConfigurationError(found)
    directory.mkdir(exist_ok=True)
    return ToyLauncher(directory)


class ToyLauncher:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def start(self, job: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        (self._directory / "asked.json").write_text(json.dumps(dict(settings)))
        return {"host": socket.gethostname(), "pid": os.getpid()}

    def wait(self, run: Mapping[str, Any], seconds: float) -> str | None:
        return "it is a toy"
