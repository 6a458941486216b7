"""The options and the rate of a resubmission: times, partitions, order, loss and speed.

Each option is declared here once, for the commands, the API's requests, the pages' form and the stored plan.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from transforms.errors import ConfigurationError
from transforms.settings import flag, optional, setting, settings_in
from transforms.settings.kinds import AGE, COUNT, SIZE, TEXT, Kind

__all__ = ["Options", "Rate"]

_LONGEST_US = 1 << 62
_STEP_US = 50_000
"""Microseconds of sending for which messages of several partitions need not be in order of time."""
_TIMES = r"[0-9]{1,6}(\.[0-9]{1,6})?x"


def _span(text: str) -> str:
    AGE.convert(text)
    return text


def _speed(text: str) -> str:
    if text != "max" and not (re.fullmatch(_TIMES, text) and float(text[:-1])):
        raise ValueError("write max, or how many times the original speed, such as 1x, 10x or 0.5x")
    return text


_CHOICE = Kind("CHOICE", str)
_SPEED = Kind("SPEED", _speed, f"max|{_TIMES}")
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
        speed: ``1x`` sends with the original spacing of publish times, ``10x`` ten times as fast; ``max``
            without any.
        restore: restore dead letters: remove the headers that were added.
        source_prefix: what ``{origin}`` leaves out: the prefix of the archived topics' sources.
        into_its_source: send also into a topic that the messages were archived from.
        mark: add the header ``persistor-replay`` with the job's id, in place of any earlier one.
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
    speed: str = setting(
        _SPEED,
        "running",
        "1x sends messages with the original spacing of their publish times, 10x ten times as fast; max is "
        "as fast as possible",
        default="max",
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
    mark: bool = flag(
        "running",
        "add the header persistor-replay with the job's id to each message; consumers recognise it, and "
        "persist with `skip_replayed` does not archive it again",
    )

    def __post_init__(self) -> None:
        """Refuse unknown values, all at once."""
        problems = []
        for one in settings_in(Options):
            value = getattr(self, one.name)
            if one.choices and value not in {*one.choices, one.default}:
                *others, last = one.choices
                problems.append(f"{one.name} {value!r}: write {', '.join(others)} or {last}.")
        for name, kind in (("slice", _SPAN), ("speed", _SPEED)):
            try:
                kind.convert(getattr(self, name))
            except ValueError as error:
                problems.append(f"{name} {getattr(self, name)!r}: {error}.")
        if problems:
            raise ConfigurationError(problems)

    @property
    def slice_us(self) -> int:
        """The slice in microseconds, at least one second."""
        return min(max(round(AGE.convert(self.slice) * 1_000_000), 1_000_000), _LONGEST_US)

    @property
    def step_us(self) -> int:
        """Publish time in microseconds whose messages of a partition are sent together."""
        fast = self.times_original
        return self.slice_us // 2 if fast is None else min(self.slice_us // 2, max(round(fast * _STEP_US), 1))

    @property
    def times_original(self) -> float | None:
        """How many times the original speed; None is without a limit."""
        return None if self.speed == "max" else float(self.speed[:-1])


@dataclass(frozen=True)
class Rate:
    """The maximum rate of a resubmission; None means no limit."""

    messages_per_second: int | None = optional(
        COUNT, "running", "maximum messages per second; can be changed while it runs"
    )
    bytes_per_second: int | None = optional(
        SIZE, "running", "maximum bytes per second; can be changed while it runs"
    )
