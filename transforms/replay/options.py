"""How a resubmission sends: times, partitions, order, and what it may leave behind."""

from __future__ import annotations

from dataclasses import dataclass

from transforms.errors import ConfigurationError

__all__ = ["Options"]


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
        source_prefix: what ``{origin}`` leaves out, the ``--source_prefix`` of the archived topics.
    """

    timestamp: str = "original"
    partitions: str | None = None
    lossy: bool = False
    order: str = "partition"
    restore: bool = False
    source_prefix: str = ""

    def __post_init__(self) -> None:
        """Refuse unknown values, all of them at once."""
        problems = []
        if self.timestamp not in {"original", "now"}:
            problems.append(f"timestamp {self.timestamp!r}: write original or now.")
        if self.partitions not in {None, "original", "key"}:
            problems.append(f"partitions {self.partitions!r}: write original or key.")
        if self.order not in {"partition", "key", "none"}:
            problems.append(f"order {self.order!r}: write partition, key or none.")
        if problems:
            raise ConfigurationError(problems)
