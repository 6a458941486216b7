"""A plan for people, from its report: as it was just made, or as a job's row keeps it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipelines.terminal.text import Fact, bars, counted, human_bytes, key_text, show_facts, span, visible

__all__ = ["plan_facts", "show_plan"]

_HEIGHT = 5
_TOPICS_SHOWN = 10


def show_plan(out: Console, told: Mapping[str, Any], *, whole: bool = False) -> None:
    """Print a plan.

    Args:
        out: where to.
        told: :meth:`transforms.replay.plans.Plan.report`, or the ``plan`` of a job's row.
        whole: with the histogram and the samples.
    """
    if not out.is_terminal:
        show_facts(out, plan_facts(told, whole=whole))
        return
    show_facts(out, _head(told))
    for part in _parts(told, whole=whole):
        out.print()
        out.print(part)
    if told["problems"] or told["warnings"]:
        out.print()
        show_facts(out, _tail(told))


def plan_facts(told: Mapping[str, Any], *, whole: bool = False) -> Iterator[Fact]:
    """A plan in lines."""
    yield from _head(told)
    for row in told["sources"]:
        yield f"source {row['source']}", f"{row['messages']:,} ({human_bytes(row['bytes'])})"
    if whole and (histogram := told["histogram"]):
        counts = " ".join(map(str, histogram["messages"]))
        yield "over time", f"{counts} (every {_width(histogram)} from {histogram['start']})"
    for sample in told["samples"] if whole else ():
        key = f", key {key_text(sample['key'])}" if sample["key"] is not None else ""
        yield "sample", f"{sample['id']}, {sample['publish_time']}, {human_bytes(sample['size'])}{key}"
    yield from _tail(told)


def _head(told: Mapping[str, Any]) -> Iterator[Fact]:
    options = told["options"]
    if "job" in told:
        yield "job", told["job"]
    yield "destination", _destination(told)
    if told["topics"] not in ([], (), [told["topic"]], (told["topic"],)):
        more = len(told["topics"]) - _TOPICS_SHOWN
        yield "topics", ", ".join(told["topics"][:_TOPICS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    size = f"{human_bytes(told['bytes'])}, largest {human_bytes(told['largest'])}"
    yield "messages", f"{told['messages']:,} ({size})"
    yield "read from", f"{counted(told['files'], 'file')} in {counted(told['requests'], 'read')}"
    if told["messages"]:
        yield "published", f"{told['oldest']} to {told['newest']}"
        yield "takes about", span(told["estimated_seconds"])
    chosen = options["partitions"] or "each topic's own"
    yield (
        "sent with",
        f"{options['timestamp']} timestamps, partitions by {chosen}, order by {options['order']}",
    )
    yield "repeats after a crash", told["deduplication"]


def _destination(told: Mapping[str, Any]) -> str:
    """With its topic, which the row of a job names apart."""
    whole = str(told["destination"]).endswith(f"/{told['topic']}")
    return told["destination"] if whole else f"{told['destination']}/{told['topic']}"


def _tail(told: Mapping[str, Any]) -> Iterator[Fact]:
    for what, count in told["cannot_carry"].items():
        yield "cannot carry", f"{what}: {count:,} messages"
    for name in ("warning", "problem"):
        yield from ((name, sentence) for sentence in told[f"{name}s"])


def _parts(told: Mapping[str, Any], *, whole: bool) -> Iterator[RenderableType]:
    if told["sources"]:
        yield _sources(told)
    if whole and told["histogram"]:
        yield _histogram(told["histogram"])
    if whole and told["samples"]:
        yield _samples(told)


def _sources(told: Mapping[str, Any]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("source", "messages", "bytes", "oldest", "newest"):
        table.add_column(name, justify="right" if name in {"messages", "bytes"} else "left")
    for row in told["sources"]:
        counts = (f"{row['messages']:,}", human_bytes(row["bytes"]))
        table.add_row(Text(visible(row["source"])), *counts, _short(row["oldest"]), _short(row["newest"]))
    return table


def _histogram(histogram: Mapping[str, Any]) -> Group:
    counts = histogram["messages"]
    # Few bars are drawn wider, so that a chart of three is one too.
    wide = max(1, min(8, 60 // len(counts)))
    lines = [
        Text(line, style="cyan", no_wrap=True)
        for line in bars([c for c in counts for _ in range(wide)], _HEIGHT)
    ]
    what = f"a bar is {_width(histogram)}, the highest {max(counts):,} messages"
    return Group(
        Text("over time", style="bold"),
        *lines,
        Text(f"from {_short(histogram['start'])}; {what}", style="dim"),
    )


def _width(histogram: Mapping[str, Any]) -> str:
    seconds = histogram["width_seconds"]
    return span(seconds) if seconds >= 1 else f"{seconds * 1000:.4g} ms"


def _samples(told: Mapping[str, Any]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("some of them", "published", "bytes", "key"):
        table.add_column(name, justify="right" if name == "bytes" else "left", overflow="fold")
    for row in told["samples"]:
        size = human_bytes(row["size"])
        table.add_row(Text(visible(row["id"])), _short(row["publish_time"]), size, Text(key_text(row["key"])))
    return table


def _short(time: str | None) -> str:
    """A time in UTC to the millisecond."""
    if time is None:
        return "-"
    seconds, _, rest = time.removesuffix("Z").removesuffix("+00:00").replace("T", " ").partition(".")
    return f"{seconds}.{rest[:3].ljust(3, '0')}"
