"""Findings of ``persistor doctor``, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.settings.wording import in_words_of_commands
from pipelines.terminal.text import visible
from transforms.errors import ConfigurationError, PersistorError
from transforms.lake import AccessDeniedError

__all__ = ["ALLOW", "Finding", "show", "tried"]

ALLOW = "Grant these credentials the right to do it."
_MARKS = {"fine": ("ok", "green"), "care": ("!", "yellow"), "wrong": ("x", "red")}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        what: the checked part, such as ``source``.
        level: ``fine``, ``care`` (works, but may stop working) or ``wrong``.
        said: the finding, in a sentence.
        remedy: what to do.
    """

    what: str
    level: str
    said: str
    remedy: str = ""


def show(findings: Iterator[Finding]) -> int:
    """Print findings as they come, and then a summary.

    Returns:
        The exit code: 0 if nothing is wrong, else 1.
    """
    out, shown = Console(highlight=False), list[Finding]()
    for finding in findings:
        if out.is_terminal:
            out.print(_row(finding))
        else:
            print("\t".join(_words(finding)), flush=True)
        shown.append(finding)
    wrong = sum(finding.level == "wrong" for finding in shown)
    care = sum(finding.level == "care" for finding in shown)
    out.print(f"{len(shown)} checks: {wrong} to fix, {care} to watch.")
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
    """A plain line with mark, checked part, finding and remedy, for pipes and logs."""
    remedy = f" -> {finding.remedy}" if finding.remedy else ""
    return _MARKS[finding.level][0], finding.what, visible(finding.said + remedy)


def tried(what: str, examination: Any, *arguments: Any) -> Iterator[Finding]:
    """The findings of an examination; if it fails, that is a finding too."""
    try:
        yield from examination(*arguments)
    except ConfigurationError as error:
        for problem in error.problems:
            yield Finding(what, "wrong", in_words_of_commands(problem))
    except AccessDeniedError as error:
        yield Finding(what, "wrong", f"{error}.", ALLOW)
    except PersistorError as error:
        remedy = "Check that it is running, and check address, network and credentials."
        yield Finding(what, "wrong", f"It does not answer: {error}.", remedy)
