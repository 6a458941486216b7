"""What Beam's in-process runner does without."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import cast

__all__ = ["IN_PROCESS", "leave_out_clouds", "runner_of"]

IN_PROCESS = frozenset({None, "DirectRunner", "FnApiRunner"})
"""What ``--runner`` may say for it; None where nothing is said."""

_OF_CLOUDS = (
    "apache_beam.io.aws.s3filesystem",
    "apache_beam.io.azure.blobstoragefilesystem",
    "apache_beam.io.gcp.bigquery",
    "apache_beam.io.gcp.gcsfilesystem",
    "google.cloud.dataflow",
)


def runner_of(words: Sequence[str]) -> str | None:
    """The runner that Beam's options name, without its package."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--runner", default="")
    try:
        named: str = parser.parse_known_args(words)[0].runner
    except argparse.ArgumentError:  # nothing stands behind it, which Beam's own parser tells
        named = ""
    return named.rpartition(".")[2] or None


def leave_out_clouds() -> None:
    """Keep Beam, before it is loaded, from loading its own clients of cloud services.

    Beam goes on as where its extras are not installed. Neither the in-process runner nor anything
    of ours uses these clients; they cost each process 36 MB and 0.4 s of CPU at its start.
    """
    if "apache_beam" not in sys.modules:
        modules = cast("dict[str, ModuleType | None]", sys.modules)
        modules.update(dict.fromkeys(_OF_CLOUDS))  # None: an import of it fails
