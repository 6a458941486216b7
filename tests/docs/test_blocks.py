"""Every command in the documents is run by a test, or says what it needs that no test has."""

from __future__ import annotations

import re

import pytest

from tests.docs._blocks import ROOT, RUN, blocks, pages

ALL = [block for page in pages() for block in blocks(page)]


@pytest.mark.parametrize("block", ALL, ids=lambda block: f"{block.page}:{block.line}")
def test_a_block_has_a_language_and_commands_say_who_runs_them(block) -> None:  # type: ignore[no-untyped-def]
    assert block.language, "write ```text, ```sh, ```yaml …"
    if block.language in RUN:
        assert block.test or block.marked("needs"), "put <!-- tested: … --> or <!-- needs: … --> above it"
    if block.test:
        assert block.test.startswith("tests/docs/test_")
        assert f'"{block.page}"' in (ROOT / block.test).read_text(), f"{block.test} does not run {block.page}"


@pytest.mark.parametrize("page", pages())
def test_what_a_reader_runs_is_fenced(page: str) -> None:
    outside = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"(?:\n\n|\A)    [^ *\d].*", outside) == []


def test_most_commands_are_run() -> None:
    commands = [block for block in ALL if block.language in RUN]
    assert len(commands) >= 20
    assert sum(bool(block.test) for block in commands) >= len(commands) / 2
