"""How a resubmission sends: times, partitions, order, what it may leave behind, and how fast.

Each option is declared here once, for the commands, the API's requests, the pages' form and the stored plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from transforms.errors import ConfigurationError
from transforms.settings import flag, optional, setting, settings_in
from transforms.settings.kinds import COUNT, SIZE, TEXT, Kind

__all__ = ["Options", "Rate"]

_CHOICE = Kind("CHOICE", str)


@dataclass(frozen=True)
class Options:
    """How a selection is sent again.

    Attributes:
        timestamp: ``original`` keeps each message's publish time, ``now`` takes the current time.
        partitions: ``original`` keeps partition numbers, ``key`` lets the key choose;
            None is ``original`` where source and destination are seen to have the same count.
        lossy: send what the destination cannot carry in a reduced form instead of refusing.
        order: what keeps its order. ``partition``: the messages of each source partition; ``key``: those
            of each key (in the order of partition and offset), so that keys spread over lanes; ``none``.
        restore: send dead letters back as they were, without what was added to them.
        source_prefix: what ``{origin}`` leaves out: the prefix of the archived topics' sources.
    """

    timestamp: str = setting(
        _CHOICE,
        "running",
        "publish time of the sent messages",
        default="original",
        choices=("original", "now"),
    )
    partitions: str | None = optional(
        _CHOICE,
        "running",
        "original keeps the partition numbers, key lets the key choose as Java's producer does; "
        "unless given, original where both topics have as many",
        choices=("original", "key"),
    )
    lossy: bool = flag("running", "send although the destination cannot carry all of every message")
    order: str = setting(
        _CHOICE,
        "running",
        "what keeps its order: each source partition, each key, or nothing",
        default="partition",
        choices=("partition", "key", "none"),
    )
    restore: bool = flag(
        "running",
        "send dead letters as they were, without what was added to them; {origin} in the destination's "
        "topic is the one that each came from",
    )
    source_prefix: str = setting(
        TEXT,
        "running",
        "what {origin} leaves out of a source's name: the prefix that its topics were archived with",
        default="",
    )

    def __post_init__(self) -> None:
        """Refuse unknown values, all of them at once."""
        problems = []
        for one in settings_in(Options):
            value = getattr(self, one.name)
            if one.choices and value not in {*one.choices, one.default}:
                *others, last = one.choices
                problems.append(f"{one.name} {value!r}: write {', '.join(others)} or {last}.")
        if problems:
            raise ConfigurationError(problems)


@dataclass(frozen=True)
class Rate:
    """How fast a resubmission goes; None is as fast as it can."""

    messages_per_second: int | None = optional(
        COUNT, "running", "messages per second at most; may be changed while it runs"
    )
    bytes_per_second: int | None = optional(
        SIZE, "running", "bytes per second at most; may be changed while it runs"
    )
