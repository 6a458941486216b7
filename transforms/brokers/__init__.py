"""Brokers, one module each, found by URL scheme; each reads and publishes.

A broker's module offers what :class:`BrokerModule` says.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from transforms.errors import TransientError
from transforms.model import Trait

__all__ = [
    "UNTOLD",
    "Acknowledgement",
    "BrokerModule",
    "Destination",
    "FencedError",
    "Fetched",
    "OffsetGapError",
    "Partition",
    "PublishOptions",
    "Publisher",
    "Reader",
    "Undelivered",
    "Unreadable",
    "digest",
    "is_noted",
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


@dataclass(frozen=True)
class Fetched:
    """Messages of one partition as they came, in order.

    Attributes:
        messages: ``MESSAGE_SCHEMA``; none where only the position went on. ``id`` is null, or the
            broker's message id where ``offset`` is null. ``headers`` is null where the client cannot
            read them: such a message cannot be archived.
        position: where reading goes on; behind the last row even where offsets have holes.
        receipts: one per row where the broker has no offsets: what acknowledges that row.
    """

    partition: Partition
    messages: pa.Table
    position: int
    receipts: Sequence[Any] = ()


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


class Reader(Protocol):
    """Reads this shard's partitions of a source. Used by one thread at a time.

    Delivery: messages are given in partition order from the assigned position on, and are
    removed from or committed at the broker only by :meth:`acknowledge`. Transient trouble is
    waited out inside (``poll`` returns empty) or raised as ``TransientError``.
    """

    positions: bool
    """True where messages have offsets; False where they are acknowledged one by one."""

    def identity(self) -> str:
        """What tells this broker from another one: Kafka cluster id, and so on."""

    def discover(self) -> Mapping[Partition, str]:
        """This shard's partitions as they are now, each with its topic's incarnation.

        The incarnation (Kafka topic id, NATS stream creation time, "" where unknown) changes
        when a topic is deleted and created again.

        Raises:
            ConfigurationError: a topic that is named (not matched by a pattern) does not exist.
            TransientError: the broker is away.
        """

    def committed(self, partition: Partition) -> tuple[int, str] | None:
        """Position and note of the group's last acknowledgement, None where there is none."""

    def earliest(self, partition: Partition) -> int:
        """The first position that the broker still has."""

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read exactly these partitions, each from its position; others are dropped.

        A partition that is assigned already and whose position is where it reads stays undisturbed.
        """

    def poll(self, seconds: float) -> list[Fetched]:
        """What has arrived, waiting up to ``seconds`` for the first message.

        Raises:
            OffsetGapError: see :mod:`transforms.brokers`; the partition must be assigned anew.
        """

    def unreadable(self) -> Sequence[Unreadable]:
        """Partitions that could not be read since this was asked the last time, and why.

        Each stands where it is, is tried again, and is named again each time; the others go on.
        """

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Tell the broker what is durable.

        Where messages have positions that is a hint, for which nothing waits: the lake's claims say how
        far a source is archived. Raises ``TransientError`` where it failed at once: retry it.
        """

    def release(self, receipts: Sequence[Any]) -> None:
        """Give back deliveries that will not be acknowledged; nothing for brokers with offsets."""

    def retention(self, partition: Partition) -> float | None:
        """Seconds for which the broker keeps messages that nobody has read; None for ever.

        Raises ``TransientError`` where it does not answer, or does not tell this user.
        """

    def examine(self, partition: Partition) -> tuple[list[str], list[str]]:
        """Problems and warnings of a topic as a source, as far as the broker tells who does not read it.

        Raises as :meth:`retention`.
        """

    def lag(self) -> Mapping[Partition, int]:
        """Messages from the reading position to the end, as far as known without waiting; from any thread."""

    def close(self) -> None:
        """Leave without acknowledging; unacknowledged messages are delivered again."""


class OffsetGapError(Exception):
    """Positions asked for are gone from the broker: retention overtook the reader.

    Attributes:
        gaps: for each partition the first position that is still there.
    """

    def __init__(self, gaps: Mapping[Partition, int]) -> None:
        self.gaps = dict(gaps)
        super().__init__(f"retention removed messages before they were read: {self.gaps}")


class FencedError(TransientError):
    """The broker has shut this publisher out: a newer one of its name has begun, or it was silent too long.

    It may begin again; what is committed by then shows which of the two it was.
    """


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


@dataclass(frozen=True)
class Undelivered:
    """A message that the destination did not take, and why (no payload in the reason)."""

    id: str
    reason: str


@dataclass(frozen=True)
class PublishOptions:
    """How messages are sent.

    Attributes:
        original_time: send the record's publish time; else the broker's or the current time.
        partitions: ``original`` keeps the partition number, ``key`` lets the key choose it.
        extra_headers: appended to every message, as name and value.
    """

    original_time: bool = True
    partitions: str = "original"
    extra_headers: Sequence[tuple[str, bytes]] = field(default_factory=tuple)


UNTOLD = "*"
"""Stands for messages that are too many to be named."""


def digest(id: str) -> str:
    """What a publisher keeps of a message's id where there is little room: 48 bits, lest two meet."""
    return base64.urlsafe_b64encode(hashlib.blake2b(id.encode(), digest_size=6).digest()).decode()


def is_noted(id: str, digests: Container[str]) -> bool:
    """Whether a message is among those whose digests were kept, by this release or an earlier one."""
    # Releases before 0.2 kept 32 bits, of which two in a commit may be equal.
    return digest(id) in digests or f"{zlib.crc32(id.encode()):08x}" in digests


class Publisher(Protocol):
    """Publishes to one topic in the order given. Used by one thread at a time.

    Attributes:
        left_out: digests of the messages that the commit did not hold whose number :meth:`begin`
            gives, or ``UNTOLD``; nothing where the destination keeps no progress.
    """

    left_out: frozenset[str]

    def destination(self) -> Destination:
        """Look the destination up. Raises ``TransientError`` where it does not answer."""

    def begin(self) -> int | None:
        """Take over this lane, shutting out an older publisher of the same name where the broker can.

        Returns:
            The number last given to :meth:`commit`, where the destination keeps it, else None.
        """

    def send(self, messages: pa.Table, options: PublishOptions) -> None:
        """Send rows (``MESSAGE_SCHEMA``) in order; blocks while the client's queue is full."""

    def commit(self, done: int) -> list[Undelivered]:
        """Wait until the broker has confirmed all that was sent since the last commit.

        Where the destination can, messages and ``done`` become visible together or not at all.

        Returns:
            The messages that were not delivered; all others are confirmed.

        Raises:
            TransientError: the outcome is not known or nothing was committed; begin again.
        """

    def finish(self) -> None:
        """The lane is done: delete what :meth:`begin` reads at the destination, where there is any."""

    def close(self) -> None:
        """Drop what is not committed and disconnect."""


class BrokerModule(Protocol):
    """What a module of this package offers.

    Both functions raise ``ConfigurationError`` with all problems for a URL or setting that cannot be
    right, a missing topic or refused credentials. Nothing is read or sent before the first call that
    says so.
    """

    def open_reader(
        self,
        url: str,
        config: Mapping[str, str],
        *,
        shard: tuple[int, int] = (0, 1),
        group: str,
        exclude: Sequence[str] = (),
    ) -> Reader:
        """Open a source.

        Args:
            url: of the source; may hold references to secrets, which are resolved here.
            config: settings of the broker's client; may hold references.
            shard: (i, n) says which partitions are this reader's.
            group: names the progress that is kept at the broker.
            exclude: glob patterns of topics never to read.
        """

    def open_publisher(self, url: str, config: Mapping[str, str], *, name: str | None = None) -> Publisher:
        """Open a destination.

        Args:
            url: with exactly one topic; may hold references to secrets.
            config: as for :meth:`open_reader`.
            name: of a lane of a job (letters, digits, ``-``), the same again when it is restarted;
                None keeps no progress.
        """
