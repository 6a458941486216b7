"""Plain English in everything that users and newcomers read: help, errors, pages, docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path for name in ("pipelines", "transforms", "resubmit_api") for path in (ROOT / name).rglob("*.py")
)
PAGES = sorted((ROOT / "resubmit_api/pages/templates").glob("*.html"))

BETTER = {
    r"so many\b(?! that)": "at most N, this many",
    r"likewise": "the word itself",
    r"by way of": "via",
    r"(?<!\w)tells?\b|\btold\b|\btelling\b": "show, report, store, distinguish",
    r"(?:it|which|what|this) is none\b": "there is no …, does not exist",
    r"speaks? against": "problem",
    r"in good order": "cleanly",
    r"what cannot be had": "not available",
    r"stay(s|ed)? away\b": "does not answer",
    r"made anew": "created again",
    r"gives? back\b": "release, return",
    r"of its own accord": "by itself",
    r"as fast as it can": "without a rate limit",
    r"of no use\b": "cannot be used",
    r"at most so": "at most this",
    r"shall\b": "will, must",
    r"nobody is let in": "every request is refused",
    r"not heeded|heeds": "ignored",
}
"""Phrases that keep newcomers out, as patterns, with the words of the field to use instead."""

MOST_WORDS = 25
"""Words of a sentence in an error or a label, on average over what is filled in."""


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """Texts of a module of three words and more; what f-strings fill in becomes one word."""
    tree = ast.parse(path.read_text())
    filled = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    inside = {id(part) for node in filled for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            yield node.lineno, "".join(str(part) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value.split()) > 2:
            yield node.lineno, node.value


def docstrings(path: Path) -> set[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    return {node.body[0].value.value for node in nodes if ast.get_docstring(node) and _is_text(node.body[0])}


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def unplain(text: str) -> list[str]:
    found = [
        (re.search(rf"\b(?:{pattern})", text, re.IGNORECASE), better) for pattern, better in BETTER.items()
    ]
    return [f"{match[0]!r}: write {better}" for match, better in found if match]


def sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.:;?])\s+|\n\n", text) if part]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_uses_plain_words(path: Path) -> None:
    found = {f"{path.name}:{line}": problems for line, text in literals(path) if (problems := unplain(text))}
    assert found == {}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_uses_plain_words(path: Path) -> None:
    text = re.sub(r"\{[{%#].*?[#%}]\}|<[^>]*>", " ", path.read_text(), flags=re.DOTALL)
    assert unplain(text) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_have_short_sentences(path: Path) -> None:
    documented = docstrings(path)
    texts = [(line, text) for line, text in literals(path) if text not in documented and "\n" not in text]
    long = {
        f"{path.name}:{line}": len(sentence.split())
        for line, text in texts
        for sentence in sentences(text)
        if len(sentence.split()) > MOST_WORDS
        and not sentence.lstrip().startswith(("SELECT", "INSERT", "CREATE", "WITH"))
    }
    assert long == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_first_line_of_a_module_is_a_sentence(path: Path) -> None:
    first = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0]
    assert first.endswith("."), "the first line of a module ends with a period"
    assert "?" not in first
    assert len(first.split()) <= MOST_WORDS


def test_the_patterns_find_what_they_are_for() -> None:
    assert unplain("list so many at most") == ["'so many': write at most N, this many"]
    assert unplain("Lag is told by its metrics") != []
    assert unplain("A plan lists its problems.") == []
