"""A track: the state of one partition while it is read, and where its next batch is cut."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import pyarrow as pa

from transforms.brokers import Mark, Partition
from transforms.layout import directories
from transforms.reading.buffers import Buffer, Limits, oldest
from transforms.reading.claims import Chain, Claim

__all__ = ["Cut", "Track", "next_cut"]


@dataclass
class Track:
    """One partition of one incarnation of a topic.

    Attributes:
        identity: identity of this incarnation.
        start: where the next batch begins.
        durable: position below which everything is durable.
        ahead: claims of other jobs or an earlier process ahead of this position, by start.
        verified: position up to which messages are known to come from this incarnation.
        gap: where the broker's messages begin again after a hole, or None.
        lost: of a hole that cannot be read and is given up: what is lost, in one sentence.
        claimed: where the newest claim that is known ends, and the mark of its last row.
        given_up: position up to which messages went to the dead letters instead, because the lake was
            away; None where nothing did. The range from ``start`` on is still to be claimed.
        identified: rows that were made ready for a claim which another job got first.
        growth: how many times the messages of a batch this one may have, because it has many paths.
        moved: whether the reader is still to be assigned at this position.
        retired: the topic is gone; what was verified or claimed goes out, nothing more is read.
    """

    partition: Partition
    source: str
    incarnation: int
    identity: str
    start: int
    buffer: Buffer
    ahead: dict[int, Claim] = field(default_factory=dict)
    durable: int = 0
    verified: int = 0
    gap: int | None = None
    lost: str | None = None
    claimed: tuple[int, Mark | None] = (-1, None)
    given_up: int | None = None
    identified: pa.Table | None = None
    growth: int = 1
    retired: bool = False
    moved: bool = True
    _out: deque[tuple[int, float]] = field(default_factory=deque)

    @property
    def key(self) -> str:
        """The track's name, unique in a shard."""
        return f"{self.source}~{self.incarnation}/{self.partition.number}"

    @property
    def chain(self) -> Chain:
        """The track's chain of claims."""
        return Chain(self.source, self.incarnation, self.partition.number or 0)

    def move(self, position: int, given_up: int | None, ahead: dict[int, Claim]) -> None:
        """Continue at another position, or after the given-up range from it on, dropping read messages."""
        self.start = position
        self.given_up = given_up
        self.ahead = ahead
        self._out.clear()
        self._read_from(position if given_up is None else given_up)

    def take(self, cut: Cut) -> None:
        """Record that the cut is claimed and handed out: the next one begins after it."""
        self._pop(cut.rows)
        self.ahead.pop(self.start, None)
        self.start = cut.next
        if self.given_up is not None and self.given_up <= cut.next:
            self.given_up = None
        self._pass_gap()

    def give_up(self, cut: Cut) -> None:
        """Record that the cut is handed out but not claimed: the next claim begins where it did before."""
        self._pop(cut.rows)
        self.given_up = cut.next
        self._pass_gap()

    @property
    def unclaimed(self) -> int:
        """The position of the next rows."""
        return self.start if self.given_up is None else self.given_up

    def _pop(self, rows: int) -> None:
        self.buffer.pop(rows)
        self.identified, self.growth = None, 1

    def limits(self, limits: Limits) -> Limits:
        """The limits of its next batch."""
        return replace(limits, messages=limits.messages * self.growth) if self.growth > 1 else limits

    def _pass_gap(self) -> None:
        behind = self.unclaimed > self.buffer.end or (self.gap is not None and self.unclaimed >= self.gap)
        if behind and not self.buffer.rows:
            self._read_from(self.unclaimed)

    def _read_from(self, position: int) -> None:
        self.moved = True
        self.verified = position
        self.buffer = Buffer(position, self.claimed[1] if self.claimed[0] == position else None)
        self.gap = self.lost = self.identified = None

    def is_full(self, limits: Limits) -> bool:
        """Whether its batch has reached a limit of size."""
        return self.buffer.rows >= limits.messages * self.growth or self.buffer.bytes >= limits.bytes

    def lose(self, first: int) -> None:
        """Record that unread messages below ``first`` are gone from the broker."""
        self.moved = True
        if any(start <= first < claim.next for start, claim in self.ahead.items()):
            self.buffer.end = first  # only a part of a claimed range: the rest of it is still to be read
        else:
            self.gap = first

    def skip(self, last: int, why: str) -> None:
        """Give up what was not read yet up to ``last``, because it cannot be read."""
        self.lose(last + 1)
        self.lost = why if self.gap is not None else None

    def pass_over(self, position: int) -> None:
        """Go on at a position, for what lies before it is durable; nothing is claimed for it."""
        self.gap = position
        there = self.ahead[position]
        self.ahead[self.start] = Claim(position, 0, position, there.path, there.format)

    def handed_out(self, messages: pa.Table) -> None:
        """Remember that these messages, up to ``start``, are handed out."""
        time = oldest(messages)
        if time is not None:
            self._out.append((self.start, time))

    def is_durable(self, position: int) -> None:
        """Record that everything handed out up to a position is durable."""
        self.durable = max(self.durable, position)
        while self._out and self._out[0][0] <= position:
            self._out.popleft()

    def oldest(self) -> list[float]:
        """Publish times (seconds since 1970), including the oldest one that is not durable."""
        return [time for _, time in self._out] + self.buffer.oldest()

    def retire(self) -> None:
        """Keep only messages known to come from the deleted incarnation."""
        self.retired = True
        self.gap = None
        if self.partition.number is not None:
            self.buffer.truncate(self.verified)

    @property
    def closable(self) -> bool:
        """Whether its batch can be closed before a limit is reached; a claimed range must be read whole."""
        return bool(self.buffer.rows) and self.start not in self.ahead

    @property
    def idle(self) -> bool:
        """Whether nothing is read, nothing handed out that is not durable, and nothing to do ahead."""
        waits = self._out or self.buffer.rows or self.start in self.ahead
        return not (waits or self.retired or self.gap is not None or self.given_up is not None)

    @property
    def exhausted(self) -> bool:
        """Whether it is retired and has nothing left to hand out."""
        return self.retired and not self.buffer.rows and self.start not in self.ahead


@dataclass(frozen=True)
class Cut:
    """The next batch of a track: its rows at the front of the buffer and the position after it.

    Attributes:
        claim: an existing claim for this range; None if it must be made.
    """

    rows: int
    next: int
    reason: str
    claim: Claim | None = None

    def shortened(self, buffer: Buffer, rows: int) -> Cut:
        """The cut of fewer rows, because these have as many paths as a batch may have."""
        return Cut(rows, _end(buffer, rows), "paths")

    def elsewhere(self, source: str, messages: pa.Table) -> tuple[str, ...]:
        """Directories of claimed messages that compaction or retention has removed since."""
        if self.claim is None or self.rows >= self.claim.rows:
            return ()
        here = set(directories(self.claim.layout, messages, source))
        return tuple(one for one in self.claim.directories if one not in here)


def next_cut(
    track: Track, limits: Limits, *, closing: str | None = None, without_lake: bool = False
) -> Cut | None:
    """The next batch, or None if it must stay open.

    Args:
        closing: why open batches are closed, whatever the limits.
        without_lake: nothing can be claimed, so a given-up range cannot be entered yet.
    """
    buffer, claim = track.buffer, track.ahead.get(track.start)
    if claim is not None:
        # Another job chose the range: it is complete once reading reaches its end.
        if buffer.end >= claim.next or track.gap is not None or track.retired or claim.lost is not None:
            return Cut(buffer.rows_below(claim.next), claim.next, "claim", claim)
        return None
    if track.given_up is not None and not without_lake:
        return Cut(0, track.given_up, "given_up")
    if track.gap is not None and not buffer.rows:
        return Cut(0, track.gap, "gap" if track.lost is None else "skip")
    closed = buffer.closed(track.limits(limits))
    if closed is None and buffer.rows and (closing or track.retired or track.gap is not None):
        closed = buffer.rows, "gap" if track.gap is not None else closing or "drain"
    return closed and Cut(closed[0], _end(buffer, closed[0]), closed[1])


def _end(buffer: Buffer, rows: int) -> int:
    """The position after the first ``rows`` rows, including a hole at the end."""
    return buffer.end if rows == buffer.rows else buffer.offset(rows - 1) + 1
