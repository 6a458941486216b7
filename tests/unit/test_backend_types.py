"""Every backend is checked against the Protocol of its kind, as ``mypy --strict`` sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from transforms.registry import names

ROOT = Path(__file__).parents[2]
PROTOCOLS = {"brokers": "BrokerModule", "formats": "FormatModule", "indexes": "IndexModule"}


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
    for kind, protocol in PROTOCOLS.items():
        lines.append(f"from transforms.{kind} import {protocol}")
        lines += [f"import transforms.{kind}.{name}" for name in names(kind)]
        lines += [f"_{name}: {protocol} = transforms.{kind}.{name}" for name in names(kind)]
    said = checked("\n".join(lines) + "\n", tmp_path)
    assert said.startswith("Success"), said


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("brokers", "def open_reader(url: str) -> None: ..."),
        ("formats", "def encode(table: object) -> str: return ''"),
        ("indexes", "ONE_HOST = 'yes'"),
    ],
)
def test_a_backend_that_offers_something_else_is_refused(kind: str, module: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(module + "\n")
    protocol = PROTOCOLS[kind]
    program = f"import wrong\nfrom transforms.{kind} import {protocol}\n_: {protocol} = wrong\n"
    assert "Incompatible types in assignment" in checked(program, tmp_path, tmp_path)
