"""Prints jobs for people and scripts: a list, a single job, and its progress."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import TaskID
from rich.table import Table
from rich.text import Text

from pipelines.settings.wording import in_words_of_commands
from pipelines.terminal.plans import show_plan
from pipelines.terminal.progress import PAUSE, progress_bar
from pipelines.terminal.text import Fact, show_facts, visible
from transforms.job_row import Row
from transforms.jobs.leases import is_free
from transforms.jobs.states import command_for, possible, shown_state
from transforms.quantities import human_bytes, span

__all__ = ["JobsView", "job_facts", "job_json", "job_words"]

_COLORS = {
    "QUEUED": "yellow", "RUNNING": "cyan", "PAUSED": "yellow", "CANCELLING": "yellow",
    "COMPLETED": "green", "FAILED": "red", "PLANNED": "blue",
}  # fmt: skip
_INTERNAL = {"version", "idempotency_key", "request", "run_key", "run", "lease", "cleared"}
_ERRORS_SHOWN = 10
_WIDE = 120
_NO_PLACES: Mapping[str, int] = {}


class JobsView:
    """Shows jobs on stdout, as a table on a terminal; progress on stderr."""

    def __init__(self, *, as_json: bool, places: Callable[[], Mapping[str, int]] = dict) -> None:
        """Show JSON if ``as_json``; ``places`` is looked up for jobs that are queued."""
        self._as_json, self._find_places = as_json, places
        self._out = Console(highlight=False)
        self._bar = progress_bar(disable=as_json)
        self._task: TaskID | None = None
        self._line, self._shown_at = "", 0.0

    def __enter__(self) -> JobsView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if kind is KeyboardInterrupt:
            sys.stderr.write("The job continues; this command no longer follows it.\n")

    def rows(self, rows: Sequence[Row]) -> None:
        """Print a list of jobs; plain lines are separated by tabs."""
        places = self._places(*rows)
        if self._as_json:
            self._dump({"resubmissions": [job_json(row, places) for row in rows]})
        elif not self._out.is_terminal:
            for row in rows:
                print("\t".join(job_words(row, places)))
        elif rows:
            self._out.print(_table(rows, places, wide=self._out.width >= _WIDE))
        else:
            self._out.print("No jobs.")

    def row(self, row: Row) -> None:
        """Print one job: its facts, progress and possible actions."""
        places = self._places(row)
        if self._as_json:
            self._dump(job_json(row, places))
            return
        show_facts(self._out, job_facts(row, places))
        if row["state"] == "PLANNED" and row["plan"]:
            show_plan(self._out, row["plan"], whole=True)

    def progress(self, row: Row) -> None:
        """Show a job's progress; called repeatedly."""
        progress = row["progress"]
        if not self._bar.disable:
            self._task = self._bar.add_task("", total=None, rate="") if self._task is None else self._task
            total, done = progress["planned"] or None, progress["published"] + progress["failed"]
            words = _state(row).lower()
            self._bar.update(self._task, description=words, total=total, completed=done, rate=_pace(row))
            self._bar.start()
        elif not self._as_json:
            line, now = f"{_state(row)}, {_done(progress)}", time.monotonic()
            if line.partition(",")[0] != self._line.partition(",")[0] or now - self._shown_at >= PAUSE:
                print(", ".join(filter(None, [line, _pace(row)])), file=sys.stderr, flush=True)
                self._line, self._shown_at = line, now

    def _places(self, *rows: Row) -> Mapping[str, int]:
        return self._find_places() if any(shown_state(row) == "QUEUED" for row in rows) else {}

    def _dump(self, value: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")


def job_json(row: Row, places: Mapping[str, int] = _NO_PLACES) -> dict[str, Any]:
    """A job in the form of the API, with its possible actions and its place in the queue."""
    shown = {"state": shown_state(row), "possible": possible(row), "place": places.get(row["id"])}
    return {name: value for name, value in row.items() if name not in _INTERNAL} | shown


def job_words(row: Row, places: Mapping[str, int] = _NO_PLACES) -> tuple[str, ...]:
    """A job in eight columns: id, state, messages done, rate, time left, destination, when and by whom."""
    progress = row["progress"]
    done = f"{progress['published'] + progress['failed']:,}/{_planned(row):,}"
    failed = f" ({progress['failed']:,} failed)" if progress["failed"] else ""
    rate, left = progress.get("rate"), progress.get("seconds_left")
    return (
        row["id"],
        _state(row, places),
        done + failed,
        f"{rate:,.0f}/s" if rate else "-",
        span(left) if left is not None else "-",
        visible(_to(row)),
        _time(row["created"]),
        visible(row["requested_by"] or "-"),
    )


def job_facts(row: Row, places: Mapping[str, int] = _NO_PLACES) -> Iterator[Fact]:
    """The facts of a job; a plan's own figures are shown separately."""
    progress, limits = row["progress"], _limits(row["rate"])
    yield "job", row["id"]
    yield "state", _state(row, places)
    if row["reason"]:
        yield "reason", row["reason"]
    yield "asked for", _time(row["created"]) + (f" by {row['requested_by']}" if row["requested_by"] else "")
    if (approval := row.get("approval")) is not None:
        by = approval["by"]
        yield (
            "approval",
            f"by {visible(by)}, {_time(approval['at'] or '')}" if by else "by another person is missing",
        )
    if row.get("note"):
        yield "note", visible(row["note"] or "")
    times = (("started", row["started"]), ("finished", row["finished"]))
    yield from ((name, _time(time)) for name, time in times if time)
    if row["state"] != "PLANNED":
        yield "to", _to(row)
        yield "selection", json.dumps(row["selection"])
        yield "done", _done(progress)
        if row["plan"]:
            yield "read from", f"{row['plan']['files']:,} files, {human_bytes(row['plan']['bytes'])}"
        yield from _moving(progress)
    yield from ([("at most", limits)] if limits else [])
    others = (("retry_of", row["retry_of"]), ("retried_by", row["retried_by"]))
    yield from ((_name(name), job) for name, job in others if job)
    commands = [
        (f"{action} it by", in_words_of_commands(how))
        for action in ("run", "resume")
        if (how := command_for(row, action))
    ]
    asked = ", ".join(possible(row))
    yield from ([("possible", asked or "none")] if asked or not commands else [])
    yield from commands
    for source, counts in progress.get("sources", {}).items() if row["state"] != "PLANNED" else ():
        yield f"source {source}", _done(counts)
    yield from _errors(row)


def _moving(progress: Mapping[str, Any]) -> Iterator[Fact]:
    if progress.get("rate"):
        yield "rate", f"{progress['rate']:,.0f} messages per second"
    if progress.get("seconds_left") is not None:
        yield "time left", span(progress["seconds_left"])
    if progress.get("last_publish_time"):
        yield "sent up to", f"{progress['last_publish_time']} (publish time)"


def _errors(row: Row) -> Iterator[Fact]:
    for error in row["errors"][:_ERRORS_SHOWN]:
        yield "not sent", f"{error['id']}: {error['reason']}"
    if len(row["errors"]) > _ERRORS_SHOWN:
        yield "not sent", f"and others; --json lists {len(row['errors'])} of them"


def _table(rows: Sequence[Row], places: Mapping[str, int] = _NO_PLACES, *, wide: bool) -> Table:
    """All columns if they fit; else the topic, and the moving figures if any."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    moving = wide or any(row["progress"].get("rate") for row in rows)
    for name in ("job", "state", "done", *(("rate", "left") if moving else ())):
        table.add_column(name, justify="left" if name in {"job", "state"} else "right", no_wrap=True)
    table.add_column("to" if wide else "topic", overflow="fold")
    for name in ("asked for", "by") if wide else ():
        table.add_column(name, no_wrap=True)
    for row in rows:
        id, state, done, rate, left, *others = job_words(row, places)
        shown = [done, *([rate, left] if moving else []), *(others if wide else [visible(row["topic"])])]
        table.add_row(id, Text(state, style=_COLORS.get(shown_state(row), "")), *map(Text, shown))
    return table


def _state(row: Row, places: Mapping[str, int] = _NO_PLACES) -> str:
    """The state, with its place if it is queued; a job of the command that nobody works on is waiting."""
    state, place = shown_state(row), places.get(row["id"])
    if state == "QUEUED":
        return state if place is None else f"{state} (place {place})"
    waits = state in {"RUNNING", "CANCELLING"} and is_free(row)
    return f"{state} (waits)" if waits else state


def _to(row: Row) -> str:
    return f"{row['destination']}/{row['topic']}"


def _done(counts: Mapping[str, Any]) -> str:
    return f"{counts['published']:,} of {counts['planned']:,} published, {counts['failed']:,} failed"


def _planned(row: Row) -> int:
    return int(row["progress"]["planned"])


def _pace(row: Row) -> str:
    rate, left = row["progress"].get("rate"), row["progress"].get("seconds_left")
    return f"{rate:,.0f}/s, {span(left)} left" if rate and left is not None else ""


def _limits(rate: Mapping[str, Any]) -> str:
    messages, size = rate["messages_per_second"], rate["bytes_per_second"]
    parts = [
        f"{messages:,} messages per second" if messages else "",
        f"{human_bytes(size)} per second" if size else "",
    ]
    return ", ".join(filter(None, parts))


def _name(name: str) -> str:
    return name.replace("_", " ")


def _time(time: str) -> str:
    """In UTC, to the second."""
    return time[:19].replace("T", " ")
