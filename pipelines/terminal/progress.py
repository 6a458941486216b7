"""What is shown of progress and reports: rich on a terminal, plain lines or JSON elsewhere."""

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
from pipelines.terminal.text import counted, show_facts, span
from transforms.replay.plans import Plan

__all__ = ["PAUSE", "Reported", "View", "progress_bar"]

PAUSE = 5.0
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
        self._progress = progress_bar(disable=as_json)
        self._task = self._progress.add_task("messages", total=None, rate="", start=True)
        self._started: float | None = None
        self._told, self._before = time.monotonic(), 0

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
            plan: what was found.
            whole: with histogram and samples.
            limits: messages and bytes per second at which it shall run.

        Returns:
            The exit code: 2 where something speaks against it.
        """
        told = plan.report() | {"estimated_seconds": plan.estimated_seconds(*limits)}
        if self._json is not None:
            self._json["plan"] = told
        else:
            show_plan(self._out, told, whole=whole)
        return 2 if plan.problems else 0

    def progress(self, done: int, failed: int, total: int) -> None:
        """Show how far it is; called as often as one likes, from one thread."""
        now = time.monotonic()
        if self._started is None or done == self._before:  # what has not begun yet has no rate
            self._started, self._before = now, done
        rate = _pace(done - self._before, now - self._started, total - done - failed)
        if not self._progress.disable:
            self._progress.start()
            self._progress.update(self._task, completed=done + failed, total=total, rate=rate)
        elif self._json is None and now - self._told >= PAUSE:
            self._told = now
            line = f"{done:,} of {total:,} done, {failed:,} failed"
            print(", ".join(filter(None, [line, rate])), file=sys.stderr, flush=True)

    def paused(self, job: str) -> None:
        """Say that a job waits to be resumed, and how that is done."""
        self._started = None  # the rate begins anew
        print(
            f"Paused. It goes on when somebody resumes it: in the pages, or by `persistor jobs --job {job} "
            "--action resume`. Ctrl-C leaves it paused.",
            file=sys.stderr,
            flush=True,
        )

    def report(self, report: Reported) -> int:
        """Show what was done, and hand on its exit code."""
        self._progress.stop()
        if self._json is not None:
            self._json["report"] = report.to_dict()
        else:
            show_facts(self._out, _report_lines(report.to_dict()))
        return report.exit_code


def progress_bar(*, disable: bool = False) -> Progress:
    """A bar on the terminal of stderr, if it is one; its tasks have a ``rate`` in words."""
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
                yield "not sent", f"and others; --json names {len(value)} of them"
        elif name == "sources":
            for source, counts in value.items():
                yield f"source {source}", ", ".join(f"{count:,} {what}" for what, count in counts.items())
        elif isinstance(value, Mapping):
            yield from ((f"{name} ({kind})", f"{count:,}") for kind, count in value.items())
        elif isinstance(value, list):
            yield from ((name.removesuffix("s"), str(item)) for item in value)
        elif name != "exit_code" and (value or name in _ALWAYS):
            yield _fact(name, value)


def _fact(name: str, value: Any) -> tuple[str, str]:
    if name == "seconds":
        return "took", span(value)
    if name == "destination":  # plans call the whole address so
        return "topic", str(value)
    if name == "rate":
        return name, f"{counted(round(value), 'message')} a second"
    return name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)
