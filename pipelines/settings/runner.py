"""Detects Beam's in-process runner, and skips Beam's cloud clients for it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import cast

__all__ = ["IN_PROCESS", "leave_out_clouds", "runner_of"]

IN_PROCESS = frozenset({None, "DirectRunner", "FnApiRunner"})
"""Values of ``--runner`` for the in-process runner; None if it is not given."""

_OF_CLOUDS = (
    "apache_beam.io.aws.s3filesystem",
    "apache_beam.io.azure.blobstoragefilesystem",
    "apache_beam.io.gcp.bigquery",
    "apache_beam.io.gcp.gcsfilesystem",
    "google.cloud.dataflow",
)


def runner_of(words: Sequence[str]) -> str | None:
    """The runner in Beam's options, without its package."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--runner", default="")
    try:
        named: str = parser.parse_known_args(words)[0].runner
    except argparse.ArgumentError:  # the value is missing, which Beam's own parser reports
        named = ""
    return named.rpartition(".")[2] or None


def leave_out_clouds() -> None:
    """Keep Beam, before it is loaded, from loading its own clients of cloud services.

    Beam then behaves as if its extras were not installed. Neither the in-process runner nor our code uses
    these clients; they cost each process 36 MB and 0.4 s of CPU at its start.
    """
    if "apache_beam" not in sys.modules:
        modules = cast("dict[str, ModuleType | None]", sys.modules)
        modules.update(dict.fromkeys(_OF_CLOUDS))  # None: an import of it fails
