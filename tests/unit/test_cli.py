"""The command line: help at once, mistakes in plain words with exit code 2 and never a stack trace."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipelines.cli import main
from pipelines.config import SUMMARIES


def persistor(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_overview_names_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    shown = capsys.readouterr().out
    for command, summary in SUMMARIES.items():
        assert command in shown
        assert summary in shown


def test_the_overview_loads_nothing_heavy() -> None:
    script = (
        "import sys; from pipelines.cli import main; main(['--help'])\n"
        "assert not {'apache_beam', 'pyarrow', 'pydantic', 'rich', 'yaml'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize("command", sorted(SUMMARIES))
def test_each_command_explains_itself(command: str) -> None:
    done = persistor(command, "--help")
    assert done.returncode == 0
    assert f"usage: persistor {command}" in done.stdout
    assert "example" in done.stdout
    assert done.stderr == ""


def test_a_misspelt_command_gets_a_suggestion() -> None:
    done = persistor("presist")
    assert done.returncode == 2
    assert "'presist' is not a command; did you mean persist?" in done.stderr


def test_all_problems_come_at_once_without_a_stack_trace() -> None:
    done = persistor("rebuild", "--lake", "/tmp/lake", "--indx=sqlite:///i.db")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "persistor rebuild cannot start, 3 problems:\n"
        "  - --index is missing: the index: mongodb://HOST/DATABASE, or sqlite:///FILE on one machine.\n"
        "  - --indx is not known; did you mean --index?\n"
        "  - --lake '/tmp/lake': write file:///DIR, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX.\n"
        "persistor rebuild --help explains every setting.\n"
    )


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "persistor 0.1.0\n"
