"""Brokers, one module each, found by URL scheme; each reads and publishes.

A broker's module offers what :class:`BrokerModule` says.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from transforms.brokers._destination import Destination
from transforms.brokers._positions import (
    NO_MARKS,
    Acknowledgement,
    Fetched,
    LogRewrittenError,
    Mark,
    OffsetGapError,
    Partition,
    Unreadable,
)
from transforms.errors import TransientError
from transforms.memory import BOUND

__all__ = [
    "AHEAD",
    "NO_MARKS",
    "UNNAMED",
    "Acknowledgement",
    "BrokerModule",
    "Destination",
    "FencedError",
    "Fetched",
    "LogRewrittenError",
    "Mark",
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


class Reader(Protocol):
    """Reads this shard's partitions of a source. Used by one thread at a time. Delivery: messages are
    returned in partition order from the assigned position on, and are removed or committed at the broker only
    by :meth:`acknowledge`. Transient errors are retried inside (``poll`` returns empty) or raised as
    ``TransientError``.
    """

    positions: bool
    """True if messages have offsets; False if they are acknowledged one by one."""

    reads_freely: bool
    """Whether reading without acknowledging leaves nothing at the broker and takes nothing from others."""

    way: str
    """How messages are read, in a sentence, where that depends on what is installed; otherwise empty."""

    def identity(self) -> str:
        """The identity of this broker, such as the Kafka cluster id."""

    def discover(self) -> Mapping[Partition, str]:
        """The present partitions of this shard, each with its topic's incarnation.

        The incarnation (Kafka topic id, NATS stream creation time, "" where unknown) changes
        when a topic is deleted and created again.

        Raises:
            ConfigurationError: a named topic (not a pattern) does not exist.
            TransientError: the broker does not answer.
        """

    def incarnations(self, partitions: Collection[Partition]) -> Mapping[Partition, str]:
        """As :meth:`discover`, of these only; what is gone is left out."""

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, tuple[int, str]]:
        """Position and note of the group's last acknowledgement, of those that have one.

        Where the broker can answer for many at once, it is one request.
        """

    def earliest(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """The first positions that the broker still has; without those that have no leader now.

        Where the broker can answer for many at once, it is one request.
        """

    def assign(self, positions: Mapping[Partition, int], marks: Mapping[Partition, Mark] = NO_MARKS) -> None:
        """Read exactly these partitions, each from its position; others are dropped.

        A partition that is assigned already and whose position is where it reads stays undisturbed.

        Args:
            marks: the last message before the position, as far as known: where the broker has epochs it is
                asked whether that message still lies there.
        """

    def poll(self, seconds: float) -> list[Fetched]:
        """Messages that have arrived, after waiting up to ``seconds`` for the first one.

        Raises:
            OffsetGapError: see :mod:`transforms.brokers`; the partition must be assigned anew.
            LogRewrittenError: a message that was read before is not there any more, or another one is.
        """

    def unreadable(self) -> Sequence[Unreadable]:
        """Partitions that could not be read since the last call, and why.

        Each stays at its position, is tried again and is returned again each time; the others continue.
        """

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Report durable positions to the broker.

        Where messages have positions that is a hint, for which nothing waits: the lake's claims say how
        far a source is archived. Raises ``TransientError`` where it failed at once: retry it.
        """

    def release(self, receipts: Sequence[Any]) -> None:
        """Release deliveries that will not be acknowledged; does nothing for brokers with offsets."""

    def retention(self, partition: Partition) -> float | None:
        """Seconds for which the broker keeps unread messages; None means for ever.

        Raises ``TransientError`` if it does not answer, or this user may not know.
        """

    def examine(self, partition: Partition) -> tuple[list[str], list[str]]:
        """Problems and warnings of a topic as a source, as far as known without reading it.

        Raises like :meth:`retention`.
        """

    def lag(self) -> Mapping[Partition, int]:
        """Messages from the reading position to the end, as far as known without waiting; thread-safe."""

    def close(self) -> None:
        """Close without acknowledging; unacknowledged messages are delivered again."""


class FencedError(TransientError):
    """The broker has shut this publisher out: a newer one of its name has begun, or it was silent too long.

    It may begin again; what is committed by then shows which of the two it was.
    """


@dataclass(frozen=True)
class Undelivered:
    """A message that the destination refused, and why (the reason contains no payload)."""

    id: str
    reason: str


@dataclass(frozen=True)
class PublishOptions:
    """How messages are sent.

    Attributes:
        original_time: send the original publish time; else the broker's or the current time.
        partitions: ``original`` keeps the partition number, ``key`` lets the key choose it.
        extra_headers: appended to every message, as name and value.
    """

    original_time: bool = True
    partitions: str = "original"
    extra_headers: Sequence[tuple[str, bytes]] = field(default_factory=tuple)


AHEAD = BOUND.ahead
"""Bytes that a reader may hold unless others are given."""
UNNAMED = "*"
"""Stands for messages that are too many to list."""


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
            gives, or ``UNNAMED``; nothing where the destination keeps no progress.
    """

    left_out: frozenset[str]

    def destination(self) -> Destination:
        """Look up the destination. Raises ``TransientError`` if it does not answer."""

    def begin(self) -> int | None:
        """Take over this lane, and fence an older publisher of the same name if the broker supports it.

        Returns:
            The number last passed to :meth:`commit` if the destination stores it, else None.
        """

    def send(self, messages: pa.Table, options: PublishOptions) -> None:
        """Send rows (``MESSAGE_SCHEMA``) in order; blocks while the client's queue is full."""

    def commit(self, done: int) -> list[Undelivered]:
        """Wait until the broker has confirmed all messages sent since the last commit.

        If the destination supports it, messages and ``done`` become visible together or not at all.

        Returns:
            The messages that were not delivered; all others are confirmed.

        Raises:
            TransientError: the outcome is not known or nothing was committed; begin again.
        """

    def finish(self) -> None:
        """The lane is done: delete its stored progress at the destination, if any."""

    def close(self) -> None:
        """Drop uncommitted messages and disconnect."""


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
        memory: int = AHEAD,
    ) -> Reader:
        """Open a source.

        Args:
            url: of the source; may hold references to secrets, which are resolved here.
            config: settings of the broker's client; may hold references.
            shard: (i, n) says which partitions are this reader's.
            group: names the progress that is kept at the broker.
            exclude: glob patterns of topics never to read.
            memory: bytes of messages that it may hold before :meth:`Reader.poll` takes them, and that one
                poll may return. A message or a compressed batch that is larger is read all the same.
        """

    def open_publisher(self, url: str, config: Mapping[str, str], *, name: str | None = None) -> Publisher:
        """Open a destination.

        Args:
            url: with exactly one topic; may hold references to secrets.
            config: as for :meth:`open_reader`.
            name: of a lane of a job (letters, digits, ``-``), and stays the same after a restart; None
                keeps no progress.
        """
