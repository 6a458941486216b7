"""The map names files that exist, every room of the house, and the words of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAP = (ROOT / "docs" / "architecture.md").read_text()
PACKAGES = ("pipelines", "transforms", "resubmit_api")
FILES = sorted(set(re.findall(r"`((?:pipelines|transforms|resubmit_api)/[\w./]*\.\w+)`", MAP)))
WALKS = ("A batch", "A selection", "A setting", "A pause", "An error")
WORDS = (
    *("batch", "chain", "claim", "cut", "dead letter", "entry", "incarnation", "job", "lane", "lease"),
    *("ledger", "replay", "segment", "selection", "shard", "source", "track", "trait", "window"),
)


def section(title: str) -> str:
    [found] = re.findall(rf"^## {title}\b.*?(?=^## |\Z)", MAP, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.mark.parametrize("name", FILES)
def test_a_file_on_the_map_exists(name: str) -> None:
    assert (ROOT / name).is_file()


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_names_its_files_in_order(walk: str) -> None:
    rows = re.findall(r"^\| (\d+) \| `[\w./]+` \|", section(walk), re.MULTILINE)
    assert rows == [str(number) for number in range(1, len(rows) + 1)]
    assert len(rows) >= 5


def test_every_package_is_a_room_and_every_room_a_package() -> None:
    there = {
        f"{path.parent.relative_to(ROOT)}/"
        for name in PACKAGES
        for path in (ROOT / name).rglob("__init__.py")
    }
    rooms = re.findall(r"^\| `([\w/]+/)` \|", section("Rooms"), re.MULTILINE)
    assert len(rooms) == len(set(rooms))
    assert set(rooms) == there


def test_the_glossary_has_the_words_in_their_order() -> None:
    words = re.findall(r"^\| ([a-z][a-z ]+) \|", section("Glossary"), re.MULTILINE)
    assert words == sorted(words)
    assert set(WORDS) <= set(words)


def test_the_map_is_linked_where_newcomers_look() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        assert "(docs/architecture.md)" in (ROOT / page).read_text()
