"""What a destination is like: what it carries, keeps and refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transforms.model import Trait

__all__ = ["Destination"]


@dataclass(frozen=True)
class Destination:
    """What a destination is like, for the preflight.

    Attributes:
        topic: its name at the broker.
        carries: what of a message survives; see ``Trait``.
        partitions: how many it has, None where it has none.
        max_bytes: the largest message it takes, None if there is no known limit.
        original_time: whether a message keeps the original publish time.
        lost_times_us: publish times (µs since 1970) in this range are not kept, though others are.
        problems: what would go wrong whatever is sent (not reachable, not writable), in sentences.
        warnings: what an operator should know, in sentences.
        for_jobs: what resubmissions need and single messages do not, in sentences.
        compacted: whether of messages with one key only the last one is kept.
        newest_taken_us: publish times (µs since 1970) behind this would be refused; None if any is taken.
        oldest_kept_us: publish times (µs since 1970) before this would be refused or deleted by
            retention soon after; None if any time is kept.
        deduplication: how repeats after a crash are prevented, one sentence for the report.
        exactly_once: whether a named publisher's messages and progress are committed together.
        keeps_bytes: bytes that it keeps together, None if it has no such limit.
        keeps_messages: messages that it keeps together, None if it has no such limit.
        held_bytes: what of that is taken already, 0 where nobody says.
        held_messages: the same of messages.
        refuses_when_full: whether it takes no more at a limit; else the oldest messages go.
        identity: as :meth:`Reader.identity` says it.
        incarnation: as :meth:`Reader.discover` says it.
        archived_as: sources under which a lake archives the topic; None where that is not looked up.
    """

    topic: str
    carries: Trait
    partitions: int | None = None
    max_bytes: int | None = None
    original_time: bool = False
    lost_times_us: tuple[int, int] | None = None
    problems: Sequence[str] = ()
    warnings: Sequence[str] = ()
    for_jobs: Sequence[str] = ()
    compacted: bool = False
    newest_taken_us: int | None = None
    oldest_kept_us: int | None = None
    deduplication: str = "none: after a crash messages may repeat"
    exactly_once: bool = False
    keeps_bytes: int | None = None
    keeps_messages: int | None = None
    held_bytes: int = 0
    held_messages: int = 0
    refuses_when_full: bool = False
    identity: str = ""
    incarnation: str = ""
    archived_as: Sequence[str] | None = None

    def may_be(self, source: str) -> bool:
        """Whether a source of that name may be this topic, whatever prefix the name has."""
        return source.endswith(self.topic)
