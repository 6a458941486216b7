"""Each guarantee of the README has tests that prove it, and each test that is named is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROOFS = (ROOT / "docs" / "explanation" / "guarantees.md").read_text()


def promises(text: str) -> list[str]:
    """The first column of a table, without its head."""
    return re.findall(r"^\| (?!Promise)([^|]+?) \|", text, re.MULTILINE)


def named() -> list[tuple[str, str]]:
    """The tests of the table, as file and name."""
    return re.findall(r"`([\w/]+\.py)::(\w+)`", PROOFS)


def test_each_row_of_the_readmes_guarantees_has_its_tests() -> None:
    guarantees = (ROOT / "README.md").read_text().partition("## Guarantees")[2].partition("\n## ")[0]
    assert len(promises(guarantees)) >= 12
    assert set(promises(guarantees)) <= set(promises(PROOFS))


def test_each_promise_names_tests() -> None:
    rows = [line for line in PROOFS.splitlines() if line.startswith("| ") and "Promise" not in line]
    assert [row for row in rows if "::test_" not in row] == []


def test_each_test_that_is_named_is_there() -> None:
    missing = []
    for file, name in named():
        path = ROOT / "tests" / file
        tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        if name not in names:
            missing.append(f"{file}::{name}")
    assert missing == []
