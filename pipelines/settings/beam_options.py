"""Checks the arguments that are not ours: Beam's, or mistakes."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import NoReturn

from pipelines.settings.declared import commands_with, settings_of
from pipelines.settings.runner import IN_PROCESS, leave_out_clouds, runner_of
from transforms.errors import ConfigurationError

__all__ = ["ON_BEAM", "check"]

ON_BEAM = ("persist", "index", "resubmit")
"""The commands that run a Beam pipeline and so accept Beam's options."""

# Their job server describes further options, which are unknown here.
_OPEN_RUNNERS = ("FlinkRunner", "SparkRunner", "PortableRunner", "KafkaStreamsRunner")


def check(command: str, words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Whether each word is an option of Beam.

    Returns:
        The name of the runner (None if not given), and the problems.
    """
    if command not in ON_BEAM:
        return None, _strange(command, words, [])
    runner = runner_of(words)
    if runner in IN_PROCESS:
        leave_out_clouds()
    parser = _beam_parser()
    # argparse lists its options nowhere else
    theirs = [option for action in parser._actions for option in action.option_strings]  # noqa: SLF001
    try:
        unknown = parser.parse_known_args(words)[1]
    except ConfigurationError as error:
        unknown = [word for word in words if word.startswith("-") and _name(word) not in theirs]
        return None, error.problems + _strange(command, unknown, theirs)
    if runner in _OPEN_RUNNERS:
        ours = [f"--{setting.name}" for setting in settings_of(command)]
        unknown = [
            word
            for word in unknown
            if word[:2] == "--" and difflib.get_close_matches(_name(word), ours, cutoff=0.8)
        ]
    return runner, _strange(command, unknown, theirs)


def _strange(command: str, words: Sequence[str], theirs: Sequence[str]) -> list[str]:
    problems = []
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("-"):
            problems.append(_unknown(command, word, theirs))
        elif not before.startswith("-") or "=" in before:
            problems.append(f"{word!r} has no setting before it; write --SETTING VALUE.")
    return problems


def _unknown(command: str, word: str, theirs: Sequence[str]) -> str:
    name = _name(word)
    if others := commands_with(name.removeprefix("--")):
        return f"{name} is a setting of persistor {' and '.join(others)}, not of {command}."
    ours = [f"--{setting.name}" for setting in settings_of(command)]
    meant = name.replace("-", "_").replace("__", "--", 1)
    # Beam has too many options: one is always similar.
    alike = difflib.get_close_matches(meant, theirs, n=1, cutoff=0.8)
    near = difflib.get_close_matches(meant, ["--config", *ours, *alike], n=1)
    advice = f"did you mean {near[0]}?" if near else f"persistor {command} --help lists the settings."
    return f"{name} is unknown; {advice}"


def _name(word: str) -> str:
    return word.partition("=")[0]


def _beam_parser() -> argparse.ArgumentParser:
    # Takes seconds, and the API never needs it.
    from apache_beam.options import pipeline_options as beam  # noqa: PLC0415

    class Parser(beam._BeamArgumentParser):  # noqa: SLF001 - the only parser with add_value_provider_argument
        def error(self, message: str) -> NoReturn:
            raise ConfigurationError(f"Beam: {message}.")

    parser = Parser(allow_abbrev=False, add_help=False)
    for options in beam.PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)  # noqa: SLF001 - as Beam's get_all_options does
    return parser
