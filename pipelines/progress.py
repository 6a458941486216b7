"""What is shown of plans, progress and reports: rich on a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from transforms.replay.plans import Plan

__all__ = ["Reported", "View", "human_bytes"]

_PAUSE = 5.0
"""Seconds between two lines of progress where there is no terminal."""


_ERRORS_SHOWN = 10
_ALWAYS = {"planned", "published", "messages", "indexed"}
"""Told even where they are 0."""


class Reported(Protocol):
    """What a finished command hands back."""

    @property
    def exit_code(self) -> int:
        """0 where everything was done."""

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON types."""


class View:
    """Shows one command's plan, progress and report; the report on stdout, progress on stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self._json: dict[str, Any] | None = {} if as_json else None
        self._out = Console(highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=as_json or not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("messages", total=None, rate="", start=True)
        self._started: float | None = None
        self._told = 0.0

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._json:
            sys.stdout.write(json.dumps(self._json, indent=2) + "\n")

    def plan(self, plan: Plan) -> int:
        """Show a plan.

        Returns:
            The exit code: 2 where something speaks against it.
        """
        if self._json is not None:
            self._json["plan"] = plan.report()
        elif self._out.is_terminal:
            self._out.print(*_tables(plan), sep="\n")
        else:
            self._lines(_plan_lines(plan))
        return 2 if plan.problems else 0

    def progress(self, done: int, failed: int, total: int) -> None:
        """Show how far it is; called as often as one likes, from one thread."""
        now = time.monotonic()
        if self._started is None:
            self._started = self._told = now
        rate = f"{done / max(now - self._started, 0.001):,.0f}/s"
        if not self._progress.disable:
            self._progress.start()
            self._progress.update(self._task, completed=done + failed, total=total, rate=rate)
        elif self._json is None and now - self._told >= _PAUSE:
            self._told = now
            print(f"{done:,} of {total:,} done, {failed:,} failed, {rate}", file=sys.stderr, flush=True)

    def report(self, report: Reported) -> int:
        """Show what was done, and hand on its exit code."""
        self._progress.stop()
        if self._json is not None:
            self._json["report"] = report.to_dict()
        else:
            self._lines(_report_lines(report.to_dict()))
        return report.exit_code

    def _lines(self, lines: Iterator[tuple[str, str]]) -> None:
        for name, value in lines:
            self._out.print(f"{name + ':':<24}", value, sep="", soft_wrap=True, markup=False)


def human_bytes(count: int) -> str:
    """A size for people, such as ``3.2 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _tables(plan: Plan) -> Iterator[Table]:
    facts = Table.grid(padding=(0, 2))
    for name, value in _plan_lines(plan, sources=False):
        style = {"problem": "bold red", "warning": "yellow"}.get(name, "")
        facts.add_row(Text(name, style="bold"), Text(value), style=style)
    yield facts
    table = Table(box=None, header_style="bold")
    for name in ("source", "messages", "bytes", "oldest", "newest"):
        table.add_column(name, justify="right" if name in {"messages", "bytes"} else "left")
    for row in plan.report()["sources"]:
        counts = (f"{row['messages']:,}", human_bytes(row["bytes"]))
        table.add_row(Text(row["source"]), *counts, row["oldest"], row["newest"])
    yield table


def _plan_lines(plan: Plan, *, sources: bool = True) -> Iterator[tuple[str, str]]:
    told = plan.report()
    yield "job", plan.job
    yield "destination", plan.destination
    yield "messages", f"{plan.messages:,} ({human_bytes(plan.bytes)}, largest {human_bytes(plan.largest)})"
    yield "read from", f"{plan.files:,} files in {plan.requests:,} reads"
    if plan.messages:
        yield "published", f"{told['oldest']} to {told['newest']}"
    yield "sent with", f"{plan.options.timestamp} timestamps, partitions by {plan.options.partitions}"
    yield "repeats after a crash", plan.deduplication
    for row in told["sources"] if sources else ():
        yield f"source {row['source']}", f"{row['messages']:,} ({human_bytes(row['bytes'])})"
    for what, count in plan.cannot_carry.items():
        yield "cannot carry", f"{what}: {count:,} messages"
    for name, sentences in (("warning", plan.warnings), ("problem", plan.problems)):
        yield from ((name, sentence) for sentence in sentences)


def _report_lines(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in report.items():
        if name == "errors":
            shown = value[:_ERRORS_SHOWN]
            yield from (("not sent", f"{e['id']} in {e['location']}: {e['reason']}") for e in shown)
            if len(value) > len(shown):
                yield "not sent", f"and others; --json names {len(value)} of them"
        elif name == "sources":
            for source, counts in value.items():
                yield f"source {source}", ", ".join(f"{count:,} {what}" for what, count in counts.items())
        elif isinstance(value, Mapping):
            yield from ((f"{name} ({kind})", f"{count:,}") for kind, count in value.items())
        elif isinstance(value, list):
            yield from ((name.removesuffix("s"), str(item)) for item in value)
        elif name != "exit_code" and (value or name in _ALWAYS):
            yield name.replace("_", " "), f"{value:,.1f}" if isinstance(value, float) else _number(value)


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
