"""Formats figures, times and foreign text for terminals and plain lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.settings.streaming import PersistSettings, Streaming
from pipelines.settings.wording import in_words_of_commands

__all__ = [
    "bars",
    "begun",
    "counted",
    "ended",
    "key_text",
    "show_facts",
    "visible",
    "waiting",
    "without_login",
]

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_STYLES = {"problem": "bold red", "not sent": "red", "warning": "yellow"}

_SOURCES_NAMED = 5
_PUBSUB_LEFT = "how many wait at Pub/Sub only its own metrics say, as num_undelivered_messages"

Fact = tuple[str, str]
"""A name and its value."""


def counted(count: int, what: str) -> str:
    """A number with its noun: ``1 file``, ``2,000 files``."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def visible(text: str) -> str:
    """Foreign text that cannot control the terminal: unprintable characters become question marks."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def key_text(key: str | Mapping[str, str] | None) -> str:
    """A message's key from a plan, as text."""
    if key is None:
        return ""
    return visible(key) if isinstance(key, str) else f"base64 {key['base64']}"


def show_facts(out: Console, facts: Iterable[Fact]) -> None:
    """Print names and values: aligned on a terminal, otherwise one line each; settings as flags."""
    facts = [(name, in_words_of_commands(value)) for name, value in facts]
    if out.is_terminal:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in facts:
            table.add_row(
                Text(visible(name), style="bold"), Text(visible(value)), style=_STYLES.get(name, "")
            )
        out.print(table)
        return
    for name, value in facts:
        line = f"{visible(name) + ':':<24}{visible(value)}"
        out.print(line.rstrip(), soft_wrap=True, markup=False, highlight=False)


def bars(counts: Sequence[int], height: int) -> Iterator[str]:
    """A bar chart as lines of text, top line first, one character per count; counts are not negative."""
    most = max(counts, default=0) or 1
    # Any count is visible.
    eighths = [max(round(count * 8 * height / most), count > 0) for count in counts]
    for line in reversed(range(height)):
        yield "".join(_EIGHTHS[min(max(level - 8 * line, 0), 8)] for level in eighths)


def without_login(url: str) -> str:
    """A URL without user, password and options, which may contain secrets."""
    parts = urlsplit(url, allow_fragments=False)
    options = "?…" if parts.query else ""
    if parts.scheme == "kafka" and parts.query:  # it has no options, and `?` is one character of a pattern
        options = f"?{parts.query}"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{options}"


def begun(settings: Streaming) -> str:
    """The first line of a streaming command, without passwords in URLs."""
    if isinstance(settings, PersistSettings):
        what = f"Archiving {without_login(settings.source)} to {without_login(settings.lake)}"
    else:
        what = f"Indexing {without_login(settings.metadata)} in {without_login(settings.index)}"
    metrics = f"; metrics on :{settings.metrics_port}" if settings.metrics_port else ""
    return f"{what}{metrics}"


def ended(settings: Streaming, left: Mapping[str, int]) -> str:
    """What a streaming command has done when it has stopped cleanly, and what it has left."""
    done = "archived" if isinstance(settings, PersistSettings) else "indexed"
    dead = " or a dead letter" if settings.dead_letter else ""
    source = settings.source if isinstance(settings, PersistSettings) else settings.metadata
    rest = _PUBSUB_LEFT if source.startswith("pubsub:") else waiting(left)
    return f"Stopped. Every message that was read is {done}{dead}{'; ' if rest else ''}{rest}."


def waiting(left: Mapping[str, int]) -> str:
    """Messages that wait at the broker, by source; nothing where none does."""
    if not left:
        return ""
    most = sorted(left, key=lambda source: -left[source])[:_SOURCES_NAMED]
    named = ", ".join(f"{source} {left[source]:,}" for source in most)
    others = f" and {counted(len(left) - len(most), 'other source')}" if len(left) > len(most) else ""
    return f"{counted(sum(left.values()), 'message')} wait at the broker ({named}{others})"
