"""Prometheus of the distribution: scrapes what a test runs, and answers the dashboards' queries."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.servers import Server, Unavailable

__all__ = ["Prometheus", "promtool"]

_INSTALL = "apt-get install prometheus"


class Prometheus(Server):
    """One server that scrapes ``targets`` (job name → host:port) each second.

    Args:
        rules: files of alert rules.
    """

    name = "prometheus"

    def __init__(self, targets: Mapping[str, str], rules: Sequence[Path] = ()) -> None:
        super().__init__()
        self._targets, self._rules = targets, rules

    @classmethod
    def install(cls) -> None:
        if shutil.which("prometheus") is None or shutil.which("promtool") is None:
            raise Unavailable("prometheus is not on this machine", _INSTALL)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [target]}]}
            for job, target in self._targets.items()
        ]
        settings = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "scrape_configs": jobs}
        settings["rule_files"] = [str(path) for path in self._rules]
        (self.data / "prometheus.yml").write_text(yaml.safe_dump(settings))

    def command(self) -> Sequence[str]:
        return [
            "prometheus",
            f"--config.file={self.data / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.data / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def answers(self) -> bool:
        return requests.get(f"{self.url}/-/ready", timeout=2).status_code == 200

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of an expression; fails where Prometheus refuses it."""
        answer = requests.get(f"{self.url}/api/v1/query", {"query": expression}, timeout=10).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found


def promtool(*arguments: str, cwd: Path | None = None) -> str:
    """What promtool prints; fails with it where promtool complains.

    Raises:
        Unavailable: it is not on this machine.
    """
    Prometheus.install()
    done = subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
