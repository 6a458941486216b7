"""The options and the rate of a resubmission: times, partitions, order, loss and speed.

Each option is declared here once, for the commands, the API's requests, the pages' form and the stored plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from transforms.errors import ConfigurationError
from transforms.settings import flag, optional, setting, settings_in
from transforms.settings.kinds import AGE, COUNT, SIZE, TEXT, Kind

__all__ = ["Options", "Rate"]

_LONGEST_US = 1 << 62


def _span(text: str) -> str:
    AGE.convert(text)
    return text


_CHOICE = Kind("CHOICE", str)
_SPAN = Kind("TIME", _span, AGE.pattern)


@dataclass(frozen=True)
class Options:
    """How a selection is sent again.

    Attributes:
        timestamp: ``original`` keeps each message's publish time, ``now`` takes the current time.
        partitions: ``original`` keeps partition numbers, ``key`` lets the key choose;
            None is ``original`` if source and destination are known to have the same count.
        lossy: send messages the destination cannot carry in a reduced form instead of refusing.
        order: which order to preserve. ``partition``: per source partition; ``key``: per key and source
            partition, so that keys spread over lanes; ``none``.
        slice: how far a partition may be ahead of another, in publish time, such as ``1m``.
        restore: restore dead letters: remove the headers that were added.
        source_prefix: what ``{origin}`` leaves out: the prefix of the archived topics' sources.
        into_its_source: send also into a topic that the messages were archived from.
    """

    timestamp: str = setting(
        _CHOICE,
        "running",
        "publish time of the sent messages: original is that of each message, now the time of sending",
        default="original",
        choices=("original", "now"),
    )
    partitions: str | None = optional(
        _CHOICE,
        "running",
        "original keeps the partition numbers, key lets the key choose like Java's producer; default: "
        "original if both topics have equally many",
        choices=("original", "key"),
    )
    lossy: bool = flag("running", "send messages even if the destination cannot carry all of their parts")
    order: str = setting(
        _CHOICE,
        "running",
        "preserve the order per source partition, per key, or not at all",
        default="partition",
        choices=("partition", "key", "none"),
    )
    slice: str = setting(
        _SPAN,
        "running",
        "how far a source partition may be ahead of another, in publish time; a longer one lets more lanes "
        "work at the same time",
        default="1m",
    )
    restore: bool = flag(
        "running",
        "restore dead letters: remove the headers that were added; {origin} in the destination's topic "
        "is each one's original topic",
    )
    source_prefix: str = setting(
        TEXT,
        "running",
        "prefix to strip from the source's name in {origin}: the prefix the topics were archived with",
        default="",
    )
    into_its_source: bool = flag(
        "running",
        "send also into the very topic that the messages were archived from, which archives them again",
    )

    def __post_init__(self) -> None:
        """Refuse unknown values, all at once."""
        problems = []
        for one in settings_in(Options):
            value = getattr(self, one.name)
            if one.choices and value not in {*one.choices, one.default}:
                *others, last = one.choices
                problems.append(f"{one.name} {value!r}: write {', '.join(others)} or {last}.")
        try:
            _SPAN.convert(self.slice)
        except ValueError as error:
            problems.append(f"slice {self.slice!r}: {error}.")
        if problems:
            raise ConfigurationError(problems)

    @property
    def slice_us(self) -> int:
        """The slice in microseconds, at least one second."""
        return min(max(round(AGE.convert(self.slice) * 1_000_000), 1_000_000), _LONGEST_US)


@dataclass(frozen=True)
class Rate:
    """The maximum rate of a resubmission; None means no limit."""

    messages_per_second: int | None = optional(
        COUNT, "running", "maximum messages per second; can be changed while it runs"
    )
    bytes_per_second: int | None = optional(
        SIZE, "running", "maximum bytes per second; can be changed while it runs"
    )
