"""Parses the settings of a command from the command line and a YAML file.

All problems are reported at once, in one ``ConfigurationError``. Secret references stay
references: they are resolved on the worker that uses them.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar

import yaml

from pipelines.settings import beam_options, checks
from pipelines.settings.declared import settings_of
from pipelines.settings.help import EPILOGS, GROUPS, SUMMARIES
from pipelines.settings.wording import in_words_of_commands
from transforms.errors import ConfigurationError
from transforms.settings import Setting, made
from transforms.settings.kinds import FLAG, PAIRS

__all__ = ["build_parser", "parse", "short_help"]


_AGO = re.compile(r"-[0-9]+[smhd]")


class _OfCommand(Protocol):
    command: ClassVar[str]


_Settings = TypeVar("_Settings", bound=_OfCommand)


def parse(kind: type[_Settings], argv: Sequence[str]) -> tuple[_Settings, list[str]]:
    """Read a command's settings.

    Args:
        kind: the settings wanted, which names the command.
        argv: the arguments after the command's name.

    Returns:
        The settings, and the arguments for Beam (none for commands without a pipeline).

    Raises:
        ConfigurationError: lists every problem.
        SystemExit: ``--help`` was printed.
    """
    namespace, rest = build_parser(kind.command).parse_known_args(_joined(argv))
    typed = vars(namespace)
    problems: list[str] = []
    filed, filed_rest = _read_file(typed.pop("config"), kind.command, problems)
    given = filed | {name: texts for name, texts in typed.items() if texts is not None}
    words = [word for name, texts in filed_rest.items() if not _has(rest, name) for word in texts] + rest
    runner, unknown = beam_options.check(kind.command, words)
    problems += unknown
    values = _convert(kind.command, given, problems)
    problems += checks.problems(kind.command, values, [name for name in given if given[name]], runner)
    if runner == "FlinkRunner" and not unknown:
        from pipelines.settings import flink_options  # noqa: PLC0415 - exist only where they are Flink's

        problems += flink_options.missing_jar(words)
        if kind.command in {"persist", "index"}:
            read = values.get("source") or values.get("metadata") or ""
            problems += flink_options.problems(words, read)
    if problems:
        raise ConfigurationError(map(in_words_of_commands, problems))
    return made(kind, values), words


def build_parser(command: str) -> argparse.ArgumentParser:
    """The parser of a command: grouped help, every value as typed."""
    parser = _Parser(
        prog=f"persistor {command}",
        description=f"{SUMMARIES[command][0].upper()}{SUMMARIES[command][1:]}.",
        epilog=EPILOGS[command],
        usage=f"persistor {command} [--config FILE] [--SETTING VALUE ...]",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="FILE", help="YAML file with these settings; the command line overrides it"
    )
    groups = {name: parser.add_argument_group(title) for name, title in GROUPS.items()}
    for setting in sorted(settings_of(command), key=lambda one: not one.required):
        _add(groups[setting.group], setting)
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message[0].upper()}{message[1:]}.")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=6, width=100)


def _add(group: argparse._ArgumentGroup, setting: Setting) -> None:
    if setting.kind is FLAG:
        group.add_argument(f"--{setting.name}", action="append_const", const="true", help=_help(setting))
        return
    metavar = "|".join(setting.choices) or setting.kind.metavar
    group.add_argument(f"--{setting.name}", action="append", metavar=metavar, help=_help(setting))


def _help(setting: Setting) -> str:
    notes = [
        "required" if setting.required else "",
        "repeatable" if setting.repeatable else "",
        f"default: {setting.default}" if setting.default else "",
    ]
    told = "; ".join(note for note in notes if note)
    return in_words_of_commands(setting.help + (f" ({told})" if told else "")).replace("%", "%%")


def _joined(words: Sequence[str]) -> list[str]:
    """``--from -1h`` as ``--from=-1h``, since a word that begins with a dash would be a setting."""
    joined: list[str] = []
    for word in words:
        if _AGO.fullmatch(word) and joined and joined[-1].startswith("--") and "=" not in joined[-1]:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def short_help(setting: Setting) -> str:
    """The meaning of a setting, to the first stop within it."""
    return in_words_of_commands(re.split(r"[:;(]|, such as", setting.help)[0].strip())


def _has(words: Iterable[str], name: str) -> bool:
    return any(word.partition("=")[0] == f"--{name}" for word in words)


class _Loader(yaml.SafeLoader):
    """Records duplicate names in a mapping, of which YAML would silently keep the last."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: list[tuple[int, str]] = []

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        mapping: yaml.MappingNode = super().compose_mapping_node(anchor)
        names = set[str]()
        for name in (name for name, _ in mapping.value if isinstance(name, yaml.ScalarNode)):
            if name.value in names:
                self.twice.append((name.start_mark.line + 1, name.value))
            names.add(name.value)
        return mapping


def _read_file(
    path: str | None, command: str, problems: list[str]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Settings of the file as typed texts, and the other arguments as words."""
    if path is None:
        return {}, {}
    try:
        loader = _Loader(Path(path).read_text(encoding="utf-8"))
        content = loader.get_single_data()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"--config {path}: {_unreadable(error)}.") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"--config {path}: write one 'name: value' per line.")
    problems += [
        f"--config {path}: line {line}: {name!r} appears twice; remove one of them."
        for line, name in sorted(loader.twice)
    ]
    known = {setting.name: setting for setting in settings_of(command)}
    ours = {name: _as_typed(value, known[name]) for name, value in content.items() if name in known}
    others = {str(name): _as_words(str(name), value) for name, value in content.items() if name not in known}
    return ours, others


def _unreadable(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1} is not YAML: {error.problem}"
    return " ".join(str(error).split())


def _as_typed(value: Any, setting: Setting) -> list[str]:
    if value is None:
        return []
    if isinstance(value, Mapping):
        return list(_as_pairs(value, "")) if setting.repeatable else [json.dumps(value, default=_text)]
    return [_text(item) for item in (value if isinstance(value, list) else [value])]


def _as_pairs(values: Mapping[Any, Any], prefix: str) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _as_pairs(value, f"{prefix}{name}:")
        else:
            yield f"{prefix}{name}={_text(value)}"


def _as_words(name: str, value: Any) -> list[str]:
    if isinstance(value, bool) or value is None:
        return [f"--{name}"] if value else []
    return [f"--{name}={_text(item)}" for item in (value if isinstance(value, list) else [value])]


def _text(value: Any) -> str:
    if isinstance(value, date):  # YAML turns unquoted times into these
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _convert(command: str, given: Mapping[str, Sequence[str]], problems: list[str]) -> dict[str, Any]:
    """Values of all settings by name; an invalid one is reported and left at its default."""
    values: dict[str, Any] = {}
    for setting in settings_of(command):
        texts = given.get(setting.name) or ([setting.default] if setting.default is not None else [])
        values[setting.name] = _value(setting, texts, problems)
    return values


def _value(setting: Setting, texts: Sequence[str], problems: list[str]) -> Any:
    converted = []
    for text in texts:
        try:
            converted.append(setting.kind.convert(text))
        except ValueError as error:
            wanted = str(error) or f"write {setting.kind.metavar}"
            problems.append(f"--{setting.name} {text!r}: {wanted}.")
    if setting.choices and not set(texts) <= set(setting.choices):
        problems.append(f"--{setting.name} {texts[-1]!r}: write one of {', '.join(setting.choices)}.")
    if setting.required and not texts:
        problems.append(f"--{setting.name} is missing: {setting.help}.")
    if "" in texts and setting.default != "":
        problems.append(f"--{setting.name} is empty: remove it or give a value.")
    if setting.repeatable:
        return dict(converted) if setting.kind is PAIRS else tuple(converted)
    if len(texts) > 1 and setting.kind is not FLAG:
        problems.append(f"--{setting.name} is given {len(texts)} times; it takes one value.")
    if setting.kind is FLAG:
        return bool(converted and converted[-1])
    return converted[-1] if converted else None
