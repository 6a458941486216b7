"""Keeps what was measured in ``bench/RESULTS.md``, one section per benchmark."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.measure import Figure

__all__ = ["write_section"]

_FILE = Path(__file__).with_name("RESULTS.md")
_TITLE = """# Results

Messages with a key and two headers; payloads are JSON of the stated size (200 B where none is).
CPU and memory are those of our processes, without the servers, which run on the same machine.
A section is replaced when its benchmark runs again.
"""
_COLUMNS = """| | messages | seconds | messages/s | per CPU-second | CPU s | peak MB | |
|---|--:|--:|--:|--:|--:|--:|---|
"""


def write_section(name: str, figures: Iterable[Figure]) -> None:
    """Write one benchmark's table with the machine and the command, and print it."""
    section = f"## {name}\n\n{_about()}\n\n{_COLUMNS}{''.join(map(_line, figures))}"
    sections = _sections()
    sections[name] = section
    _FILE.write_text(_TITLE + "".join(f"\n{one}" for one in sections.values()))
    print(section)


def _sections() -> dict[str, str]:
    text = _FILE.read_text() if _FILE.exists() else ""
    parts = text.split("\n## ")[1:]
    return {part.split("\n", 1)[0]: f"## {part.rstrip()}\n" for part in parts}


def _about() -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    load = psutil.getloadavg()[0]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("apache-beam", "pyarrow", "confluent-kafka"))
    return (
        f"`python -m bench {' '.join(sys.argv[1:])}`, {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, "
        f"commit {commit.stdout.strip()}: {_processor()}, {psutil.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {libraries}; load average at the end {load:.1f}."
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _line(figure: Figure) -> str:
    per_cpu = f"{figure.messages / figure.cpu:,.0f}" if figure.cpu else ""
    return (
        f"| {figure.name} | {figure.messages:,} | {figure.seconds:.2f} | {figure.rate:,.0f} | {per_cpu} "
        f"| {figure.cpu:.1f} | {figure.memory:.0f} | {figure.note} |\n"
    )
