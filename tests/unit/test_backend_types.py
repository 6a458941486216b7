"""Every backend is checked against the Protocol of its kind, as ``mypy --strict`` sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from transforms.discovery import names

ROOT = Path(__file__).parents[2]
PROTOCOLS = {
    "transforms.brokers": "BrokerModule",
    "transforms.formats": "FormatModule",
    "transforms.indexes": "IndexModule",
    "resubmit_api.launchers": "LauncherModule",
}


def checked(program: str, directory: Path, *path: Path) -> str:
    """What mypy has to say of a program, with the settings of the project."""
    (directory / "program.py").write_text(program)
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(directory / "program.py")],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": os.pathsep.join(map(str, path))},
    )
    return done.stdout + done.stderr


def test_every_backend_offers_what_its_kind_has_to(tmp_path: Path) -> None:
    lines = []
    for package, protocol in PROTOCOLS.items():
        lines.append(f"from {package} import {protocol}")
        lines += [f"import {package}.{name}" for name in names(package)]
        lines += [f"_{name}: {protocol} = {package}.{name}" for name in names(package)]
    said = checked("\n".join(lines) + "\n", tmp_path)
    assert said.startswith("Success"), said


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("transforms.brokers", "def open_reader(url: str) -> None: ..."),
        ("transforms.formats", "def encode(table: object) -> str: return ''"),
        ("transforms.indexes", "ONE_HOST = 'yes'"),
        ("resubmit_api.launchers", "def problems() -> None: ..."),
    ],
)
def test_a_backend_that_offers_something_else_is_refused(package: str, module: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(module + "\n")
    protocol = PROTOCOLS[package]
    program = f"import wrong\nfrom {package} import {protocol}\n_: {protocol} = wrong\n"
    assert "Incompatible types in assignment" in checked(program, tmp_path, tmp_path)
