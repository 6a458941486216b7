"""The scripts of ``persistor completion``, in the shells that read them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.settings.declared import CLASSES, settings_of
from pipelines.settings.help import SUMMARIES

_BASH = """source "$0"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_persistor
printf "%s\\n" "${COMPREPLY[@]}"
"""
_FISH = """source $argv[1]
complete -C (string join " " -- $argv[2..-1]) | string replace -r "\\t.*" ""
true
"""
_ASK = {"bash": _BASH, "fish": _FISH}
Shell = tuple[str, Path]


@pytest.fixture(params=_ASK)
def shell(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[str, Path]:
    if not shutil.which(request.param):
        pytest.skip(f"apt-get install {request.param}")
    assert main(["completion", request.param]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    return request.param, script


def offered(shell: Shell, *words: str) -> set[str]:
    program, script = shell
    done = subprocess.run(
        [program, "-c", _ASK[program], str(script), "persistor", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_commands_settings_and_choices_are_offered(shell: Shell) -> None:
    assert offered(shell, "") >= set(SUMMARIES)
    assert offered(shell, "se") == {"search"}
    assert offered(shell, "jobs", "--action", "pa") == {"pause"}
    assert offered(shell, "doctor", "pers") >= {"persist"}
    for command in CLASSES:
        assert offered(shell, command, "--") >= {f"--{one.name}" for one in settings_of(command)}


def test_zsh_reads_what_bash_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not shutil.which("zsh"):
        pytest.skip("apt-get install zsh")
    main(["completion", "zsh"])
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    asked = 'autoload -U compinit; compinit -D; source "$1"; print ${_comps[persistor]}'
    done = subprocess.run(
        ["zsh", "-fc", asked, "zsh", str(script)], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("_bash_complete -o default -F _persistor", "")


def test_another_shell_is_refused_with_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "--shell 'tcsh': write one of bash, zsh, fish." in capsys.readouterr().err
