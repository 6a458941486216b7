"""Apache Spark as its wheel has it, apart from our environment: it is larger than all the rest together."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.servers import fetch_once, run
from tests.servers._java import java

__all__ = ["Spark"]

_VERSION = "4.0.1"


class Spark:
    """Spark in one process, for Python."""

    name = "spark"

    @classmethod
    def install(cls) -> Path:
        """The directory that a program's PYTHONPATH needs.

        Raises:
            Unavailable: this machine has no Java 17.
        """
        java()
        return fetch_once(f"spark-{_VERSION}", _fetch)


def _fetch(target: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--target", str(target), f"pyspark=={_VERSION}"], cwd=target)
