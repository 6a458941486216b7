"""Prints progress and reports: rich on a terminal, plain lines or JSON elsewhere."""

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

from pipelines.terminal.plans import show_plan
from pipelines.terminal.text import counted, show_facts
from transforms.quantities import span
from transforms.replay.plans import Plan

__all__ = ["PAUSE", "Reported", "View", "progress_bar"]

PAUSE = 5.0
"""Seconds between two lines of progress without a terminal."""


_ERRORS_SHOWN = 10
_SHOWN_IF_ZERO = {"planned", "published", "messages", "indexed"}
"""Figures shown even if they are 0."""


class Reported(Protocol):
    """The report of a finished command."""

    @property
    def exit_code(self) -> int:
        """0 if everything was done."""

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON types."""


class View:
    """Shows one command's plan, progress and report; the report on stdout, progress on stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self._json: dict[str, Any] | None = {} if as_json else None
        self._out = Console(highlight=False)
        self._progress = progress_bar(disable=as_json)
        self._task = self._progress.add_task("messages", total=None, rate="", start=True)
        self._started: float | None = None
        self._shown_at, self._before = time.monotonic(), 0

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._json:
            sys.stdout.write(json.dumps(self._json, indent=2) + "\n")

    def plan(
        self, plan: Plan, *, whole: bool = False, limits: tuple[float | None, float | None] = (None, None)
    ) -> int:
        """Show a plan.

        Args:
            plan: the plan.
            whole: with histogram and samples.
            limits: messages and bytes per second at which it will run.

        Returns:
            The exit code: 2 if the plan has problems.
        """
        report = plan.report() | {"estimated_seconds": plan.estimated_seconds(*limits)}
        if self._json is not None:
            self._json["plan"] = report
        else:
            show_plan(self._out, report, whole=whole)
        return 2 if plan.problems else 0

    def progress(self, done: int, failed: int, total: int) -> None:
        """Show the progress; may be called often, from one thread."""
        now = time.monotonic()
        if self._started is None or done == self._before:  # before the start there is no rate
            self._started, self._before = now, done
        rate = _pace(done - self._before, now - self._started, total - done - failed)
        if not self._progress.disable:
            self._progress.start()
            self._progress.update(self._task, completed=done + failed, total=total, rate=rate)
        elif self._json is None and now - self._shown_at >= PAUSE:
            self._shown_at = now
            line = f"{done:,} of {total:,} done, {failed:,} failed"
            print(", ".join(filter(None, [line, rate])), file=sys.stderr, flush=True)

    def paused(self, job: str) -> None:
        """Show that a job is paused, and how to resume it."""
        self._started = None  # the rate starts again
        print(
            f"Paused. Resume it in the web pages, or with `persistor jobs --job {job} --action resume`. "
            "Ctrl-C leaves it paused.",
            file=sys.stderr,
            flush=True,
        )

    def report(self, report: Reported) -> int:
        """Show the report, and return its exit code."""
        self._progress.stop()
        if self._json is not None:
            self._json["report"] = report.to_dict()
        else:
            show_facts(self._out, _report_lines(report.to_dict()))
        return report.exit_code


def progress_bar(*, disable: bool = False) -> Progress:
    """A progress bar on stderr if that is a terminal; its tasks have a ``rate`` in words."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=disable or not sys.stderr.isatty(),
    )


def _pace(done: int, seconds: float, left: int) -> str:
    if not done or not seconds:
        return ""
    rate = done / seconds
    return f"{rate:,.0f}/s" + (f", {span(left / rate)} left" if left > 0 else "")


def _report_lines(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in report.items():
        if name == "errors":
            shown = value[:_ERRORS_SHOWN]
            yield from (("not sent", f"{e['id']} in {e['location']}: {e['reason']}") for e in shown)
            if len(value) > len(shown):
                yield "not sent", f"and others; --json lists {len(value)} of them"
        elif name == "sources":
            for source, counts in value.items():
                yield f"source {source}", ", ".join(f"{count:,} {what}" for what, count in counts.items())
        elif isinstance(value, Mapping):
            yield from ((f"{name} ({kind})", f"{count:,}") for kind, count in value.items())
        elif isinstance(value, list):
            yield from ((name.removesuffix("s"), str(item)) for item in value)
        elif name != "exit_code" and (value or name in _SHOWN_IF_ZERO):
            yield _fact(name, value)


def _fact(name: str, value: Any) -> tuple[str, str]:
    if name == "seconds":
        return "took", span(value)
    if name == "destination":  # in plans this name means the whole address
        return "topic", str(value)
    if name == "rate":
        return name, f"{counted(round(value), 'message')} per second"
    return name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)
