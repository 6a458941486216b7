"""What ``persistor doctor`` found, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.terminal.text import visible
from transforms.errors import ConfigurationError, PersistorError
from transforms.lake import AccessDeniedError

__all__ = ["ALLOW", "Finding", "show", "tried"]

ALLOW = "Give these credentials the right to it."
_MARKS = {"fine": ("ok", "green"), "care": ("!", "yellow"), "wrong": ("x", "red")}


@dataclass(frozen=True)
class Finding:
    """What was tried and how it went.

    Attributes:
        what: was looked at, such as ``source``.
        level: ``fine``, ``care`` (works, and may not for ever) or ``wrong``.
        said: what was found, in a sentence.
        remedy: what to do about it.
    """

    what: str
    level: str
    said: str
    remedy: str = ""


def show(findings: Iterator[Finding]) -> int:
    """Print findings as they come, and then what to do.

    Returns:
        The exit code: 0 where nothing is wrong, else 1.
    """
    out, told = Console(highlight=False), list[Finding]()
    for finding in findings:
        if out.is_terminal:
            out.print(_row(finding))
        else:
            print("\t".join(_words(finding)), flush=True)
        told.append(finding)
    wrong = sum(finding.level == "wrong" for finding in told)
    care = sum(finding.level == "care" for finding in told)
    out.print(f"{len(told)} checks: {wrong} to fix, {care} to watch.")
    return int(wrong > 0)


def _row(finding: Finding) -> Table:
    mark, style = _MARKS[finding.level]
    row = Table.grid(padding=(0, 1))
    row.add_column(width=2)
    row.add_column(width=12)
    row.add_column(overflow="fold")
    remedy = f"\n-> {finding.remedy}" if finding.remedy else ""
    row.add_row(Text(mark, style=style), finding.what, Text(finding.said + remedy))
    return row


def _words(finding: Finding) -> tuple[str, ...]:
    """Mark, what was looked at, and what was found with its remedy: for pipes and logs."""
    remedy = f" -> {finding.remedy}" if finding.remedy else ""
    return _MARKS[finding.level][0], finding.what, visible(finding.said + remedy)


def tried(what: str, examination: Any, *arguments: Any) -> Iterator[Finding]:
    """What an examination finds; where it cannot go on, that is a finding too."""
    try:
        yield from examination(*arguments)
    except ConfigurationError as error:
        for problem in error.problems:
            yield Finding(what, "wrong", problem)
    except AccessDeniedError as error:
        yield Finding(what, "wrong", f"{error}.", ALLOW)
    except PersistorError as error:
        remedy = "Is it running, and reachable from here? Check address, network and credentials."
        yield Finding(what, "wrong", f"It does not answer: {error}.", remedy)
