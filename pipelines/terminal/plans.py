"""Prints a plan from its report, new or stored in a job's row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipelines.terminal.text import Fact, bars, counted, key_text, show_facts, visible
from transforms.quantities import human_bytes, span

__all__ = ["plan_facts", "show_plan"]

_HEIGHT = 5
_TOPICS_SHOWN = 10


def show_plan(out: Console, report: Mapping[str, Any], *, whole: bool = False) -> None:
    """Print a plan.

    Args:
        out: the output stream.
        report: :meth:`transforms.replay.plans.Plan.report`, or the ``plan`` of a job's row.
        whole: with the histogram and the samples.
    """
    if not out.is_terminal:
        show_facts(out, plan_facts(report, whole=whole))
        return
    show_facts(out, _head(report))
    for part in _parts(report, whole=whole):
        out.print()
        out.print(part)
    if report["problems"] or report["warnings"]:
        out.print()
        show_facts(out, _tail(report))


def plan_facts(report: Mapping[str, Any], *, whole: bool = False) -> Iterator[Fact]:
    """The facts of a plan."""
    yield from _head(report)
    for row in report["sources"]:
        yield f"source {row['source']}", f"{row['messages']:,} ({human_bytes(row['bytes'])})"
    if whole and (histogram := report["histogram"]):
        counts = " ".join(map(str, histogram["messages"]))
        yield "over time", f"{counts} (every {_width(histogram)} from {histogram['start']})"
    for sample in report["samples"] if whole else ():
        key = f", key {key_text(sample['key'])}" if sample["key"] is not None else ""
        yield "sample", f"{sample['id']}, {sample['publish_time']}, {human_bytes(sample['size'])}{key}"
    yield from _tail(report)


def _head(report: Mapping[str, Any]) -> Iterator[Fact]:
    options = report["options"]
    if "job" in report:
        yield "job", report["job"]
    yield "destination", _destination(report)
    if "selection" in report:
        yield "selection", json.dumps(report["selection"], ensure_ascii=False)
    if report["topics"] not in ([], (), [report["topic"]], (report["topic"],)):
        more = len(report["topics"]) - _TOPICS_SHOWN
        yield (
            "topics",
            ", ".join(report["topics"][:_TOPICS_SHOWN]) + (f", {more} more" if more > 0 else ""),
        )
    size = f"{human_bytes(report['bytes'])}, largest {human_bytes(report['largest'])}"
    yield "messages", f"{report['messages']:,} ({size})"
    yield "read from", f"{counted(report['files'], 'file')} in {counted(report['requests'], 'read')}"
    if report["messages"]:
        yield "published", f"{report['oldest']} to {report['newest']}"
        yield "estimated time", span(report["estimated_seconds"])
    chosen = options["partitions"] or "original or key, by topic"
    yield (
        "sent with",
        f"{options['timestamp']} timestamps, partitions by {chosen}, order by {options['order']}",
    )
    yield "repeats after a crash", report["deduplication"]


def _destination(report: Mapping[str, Any]) -> str:
    """The destination with its topic, which a job's row stores separately."""
    whole = str(report["destination"]).endswith(f"/{report['topic']}")
    return report["destination"] if whole else f"{report['destination']}/{report['topic']}"


def _tail(report: Mapping[str, Any]) -> Iterator[Fact]:
    for what, count in report["cannot_carry"].items():
        yield "cannot carry", f"{what}: {count:,} messages"
    for name in ("warning", "problem"):
        yield from ((name, sentence) for sentence in report[f"{name}s"])


def _parts(report: Mapping[str, Any], *, whole: bool) -> Iterator[RenderableType]:
    if report["sources"]:
        yield _sources(report)
    if whole and report["histogram"]:
        yield _histogram(report["histogram"])
    if whole and report["samples"]:
        yield _samples(report)


def _sources(report: Mapping[str, Any]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("source", "messages", "bytes", "oldest", "newest"):
        table.add_column(name, justify="right" if name in {"messages", "bytes"} else "left")
    for row in report["sources"]:
        counts = (f"{row['messages']:,}", human_bytes(row["bytes"]))
        table.add_row(Text(visible(row["source"])), *counts, _short(row["oldest"]), _short(row["newest"]))
    return table


def _histogram(histogram: Mapping[str, Any]) -> Group:
    counts = histogram["messages"]
    # Few bars are drawn wider, so that even three make a chart.
    wide = max(1, min(8, 60 // len(counts)))
    lines = [
        Text(line, style="cyan", no_wrap=True)
        for line in bars([c for c in counts for _ in range(wide)], _HEIGHT)
    ]
    what = f"{_width(histogram)} per bar, highest {max(counts):,} messages"
    return Group(
        Text("over time", style="bold"),
        *lines,
        Text(f"from {_short(histogram['start'])}; {what}", style="dim"),
    )


def _width(histogram: Mapping[str, Any]) -> str:
    seconds = histogram["width_seconds"]
    return span(seconds) if seconds >= 1 else f"{seconds * 1000:.4g} ms"


def _samples(report: Mapping[str, Any]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("samples", "published", "bytes", "key"):
        table.add_column(name, justify="right" if name == "bytes" else "left", overflow="fold")
    for row in report["samples"]:
        size = human_bytes(row["size"])
        table.add_row(Text(visible(row["id"])), _short(row["publish_time"]), size, Text(key_text(row["key"])))
    return table


def _short(time: str | None) -> str:
    """A time in UTC to the millisecond."""
    if time is None:
        return "-"
    seconds, _, rest = time.removesuffix("Z").removesuffix("+00:00").replace("T", " ").partition(".")
    return f"{seconds}.{rest[:3].ljust(3, '0')}"
