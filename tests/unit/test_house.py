"""The house rules that a linter does not know: versions that agree, sizes, documentation, names."""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipelines", "transforms", "resubmit_api")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, Function))


def body_lines(function: Function) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def pinned(name: str) -> dict[str, list[str]]:
    """The versions of each requirement of a file; several where they differ by Python's version."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        requirement, equals, version = line.partition(" ;")[0].partition("==")
        if equals:
            found.setdefault(requirement.partition("[")[0].strip(), []).append(version.strip())
    return found


def direct() -> dict[str, str]:
    """What setup.py asks for, by name, but for the requirements of development."""
    runtime = (ROOT / "setup.py").read_text().replace('EXTRAS["dev"]', "\0").split("\0")
    kept = runtime[0] + runtime[1][runtime[1].index("]") :]
    pairs = re.findall(r'"([a-z0-9-]+)(?:\[[a-z,]+\])?([=>]=[0-9.]+)"', kept)
    return {name: version for name, version in pairs if name != "setuptools"}


def test_every_direct_dependency_is_pinned_at_a_version_that_setup_allows() -> None:
    pins = pinned("requirements.txt")
    assert len(direct()) >= 14
    for name, wanted in direct().items():
        assert name in pins, f"{name} is not in requirements.txt: make requirements"
        least = tuple(map(int, wanted[2:].split(".")))
        for version in pins[name]:
            have = tuple(map(int, version.split(".")[: len(least)]))
            assert have == least if wanted.startswith("==") else have >= least, (
                f"{name}{wanted}, pinned {version}"
            )


def test_every_library_that_is_imported_is_asked_for() -> None:
    asked = {name.replace("-", "_") for name in direct()} | {
        "google",
        "yaml",
        "nats",
        "bson",
        "prometheus_client",
    }
    trees = [ast.parse(path.read_text()) for path in MODULES]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    libraries = {name.partition(".")[0] for name in names} - set(PACKAGES) - sys.stdlib_module_names
    # These are the lower halves of pydantic and Flask, of the same makers.
    assert libraries - asked - {"pydantic_core", "werkzeug", "markupsafe"} == set()


def test_the_pins_of_development_repeat_none_of_the_runtime() -> None:
    assert (ROOT / "requirements-dev.txt").read_text().startswith("-r requirements.txt\n")
    assert not set(pinned("requirements-dev.txt")) & set(pinned("requirements.txt"))


def test_images_are_built_on_the_beam_that_is_pinned() -> None:
    [beam] = pinned("requirements.txt")["apache-beam"]
    for dockerfile in (ROOT / "templates").rglob("*Dockerfile*"):
        for version in re.findall(
            r"beam_python[0-9.]+_sdk:([0-9.]+)|BEAM_VERSION=([0-9.]+)", dockerfile.read_text()
        ):
            assert beam in version, f"{dockerfile.name} is built on Beam {version}, setup.py asks for {beam}"


def test_no_index_and_no_machine_is_named() -> None:
    files = [
        *ROOT.glob("*.txt"),
        *ROOT.glob("*.py"),
        *ROOT.glob("*.toml"),
        *ROOT.glob("*.md"),
        ROOT / "Makefile",
        *MODULES,
    ]
    for file in files:
        assert not re.search(r"--(extra-)?index-url|/root/|/work/", file.read_text()), file


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short_documented_and_says_what_is_public(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    if not text:
        return
    assert ast.get_docstring(tree), "say in one sentence what this module is for"
    assert len(text.splitlines()) <= 350, "split it by role"
    if path.name != "__init__.py":
        assert "from __future__ import annotations" in text
    if path.name[0] != "_":
        assert re.search(r"^__all__ = ", text, re.MULTILINE), "name what is public"


@pytest.mark.parametrize("modules", [MODULES, TESTS], ids=["product", "tests"])
def test_functions_are_short(modules: list[Path]) -> None:
    sizes = sorted(body_lines(function) for path in modules for function in functions(path))
    assert statistics.median(sizes) <= 7
    assert sizes[len(sizes) * 9 // 10] <= 30
    assert sizes[-1] <= 60


def test_modules_of_tests_are_short_and_say_what_they_are_for() -> None:
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in TESTS}
    assert [name for name, text in texts.items() if len(text.splitlines()) > 350] == []
    assert [name for name, text in texts.items() if text and not ast.get_docstring(ast.parse(text))] == []


def test_functions_are_annotated() -> None:
    bare = [f"{path.name}: {f.name}" for path in MODULES for f in functions(path) if f.returns is None]
    assert bare == []


def test_public_names_are_documented() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = [(path, node) for path in MODULES for node in ast.parse(path.read_text()).body]
    public = [(path, node) for path, node in nodes if isinstance(node, kinds) and node.name[0] != "_"]
    assert [f"{path.name}: {node.name}" for path, node in public if not ast.get_docstring(node)] == []


def test_nothing_is_left_to_do() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XXX|NotImplemented" + r"Error)\b")
    found = [
        f"{path.name}: {line.strip()}"
        for path in MODULES
        for line in path.read_text().splitlines()
        if marks.search(line)
    ]
    assert found == []
