"""Where a reader stands, what it gives, and what keeps it from going on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

__all__ = [
    "NO_MARKS",
    "Acknowledgement",
    "Fetched",
    "LogRewrittenError",
    "Mark",
    "OffsetGapError",
    "Partition",
    "Unreadable",
]


@dataclass(frozen=True, order=True)
class Partition:
    """One ordered sequence of messages at a broker.

    Attributes:
        topic: Kafka topic; NATS subject filter; Pub/Sub subscription.
        number: the partition; 0 for NATS; None where messages have no positions (Pub/Sub).
    """

    topic: str
    number: int | None


Mark = tuple[int, int]
"""Position behind a message, and the epoch of the leader that wrote it (Kafka).

It distinguishes a log that another leader has written from the one that was read.
"""


@dataclass(frozen=True)
class Fetched:
    """Messages of one partition as they came, in order.

    Attributes:
        messages: ``MESSAGE_SCHEMA``; none where only the position went on. ``id`` is null, or the
            broker's message id where ``offset`` is null. ``headers`` is null where the client cannot
            read them: such a message cannot be archived.
        position: where reading goes on; behind the last row even where offsets have holes.
        receipts: one per row where the broker has no offsets: what acknowledges that row.
        epoch: of the leader that wrote these messages; None where the broker has none.
    """

    partition: Partition
    messages: pa.Table
    position: int
    receipts: Sequence[Any] = ()
    epoch: int | None = None


@dataclass(frozen=True)
class Acknowledgement:
    """All messages of a partition below ``position``, or exactly ``receipts``, are durable.

    ``note`` (ASCII, up to 100 characters) is kept with the position where the broker can.
    """

    partition: Partition
    position: int
    note: str = ""
    receipts: Sequence[Any] = ()


@dataclass(frozen=True)
class Unreadable:
    """What a partition has at a position cannot be read.

    Attributes:
        position: where reading stands; it is tried again there.
        code: the error's short name at the broker or its client.
        reason: one sentence, without any payload.
    """

    partition: Partition
    position: int
    code: str
    reason: str


NO_MARKS: Mapping[Partition, Mark] = {}


class OffsetGapError(Exception):
    """Positions asked for are gone from the broker: retention overtook the reader.

    Attributes:
        gaps: for each partition the first position that is still there.
    """

    def __init__(self, gaps: Mapping[Partition, int]) -> None:
        self.gaps = dict(gaps)
        super().__init__(f"retention removed messages before they were read: {self.gaps}")


class LogRewrittenError(Exception):
    """What was read before is not in the log any more, though retention did not remove it.

    Attributes:
        reasons: what the client says, by partition.
    """

    def __init__(self, reasons: Mapping[Partition, str]) -> None:
        self.reasons = dict(reasons)
        super().__init__(f"the broker's log was rewritten: {self.reasons}")
