"""One partition on its way into batches: where it is, and where its next batch is to be cut."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pyarrow as pa

from transforms.brokers import Partition
from transforms.layout import directories
from transforms.reading.buffers import Buffer, Limits, oldest
from transforms.reading.claims import Chain, Claim

__all__ = ["Cut", "Track", "next_cut"]


@dataclass
class Track:
    """One partition of one incarnation of a topic.

    Attributes:
        identity: what tells this incarnation from another one.
        start: where the next batch begins.
        durable: position below which everything is durable.
        ahead: claims of other jobs, or of an earlier life, that lie before us, by their start.
        verified: position up to which what was read is known to come from this incarnation.
        gap: where the broker's messages begin again behind a hole, None where there is no hole.
        retired: the topic is gone; what was verified goes out, nothing more is read.
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
    retired: bool = False
    _out: deque[tuple[int, float]] = field(default_factory=deque)

    @property
    def key(self) -> str:
        """Names the track in a restriction."""
        return f"{self.source}~{self.incarnation}/{self.partition.number}"

    @property
    def chain(self) -> Chain:
        """The track's chain of claims."""
        return Chain(self.source, self.incarnation, self.partition.number or 0)

    def move(self, position: int, ahead: dict[int, Claim]) -> None:
        """Go on at another position, forgetting what was read."""
        self.start = self.verified = position
        self.buffer = Buffer(position)
        self.ahead = ahead
        self.gap = None
        self._out.clear()

    def lose(self, first: int) -> None:
        """What was not read yet below ``first`` is gone from the broker."""
        if any(start <= first < claim.next for start, claim in self.ahead.items()):
            self.buffer.end = first  # only a part of a claimed range: the rest of it is still to be read
        else:
            self.gap = first

    def handed_out(self, messages: pa.Table) -> None:
        """Remember that these messages, up to ``start``, are on their way."""
        time = oldest(messages)
        if time is not None:
            self._out.append((self.start, time))

    def is_durable(self, position: int) -> None:
        """Everything handed out up to a position has arrived."""
        self.durable = max(self.durable, position)
        while self._out and self._out[0][0] <= position:
            self._out.popleft()

    def oldest(self) -> list[float]:
        """Publish times (seconds since 1970), among them the oldest one that is not durable."""
        return [time for _, time in self._out] + self.buffer.oldest()

    def retire(self) -> None:
        """Keep only what is known to come from the incarnation that is gone."""
        self.retired = True
        self.gap = None
        if self.partition.number is not None:
            self.buffer.truncate(self.verified)

    @property
    def exhausted(self) -> bool:
        """Retired, and nothing is left to go out."""
        return self.retired and not self.buffer.rows


@dataclass(frozen=True)
class Cut:
    """The next batch of a track: its rows in front of the buffer and the position behind it.

    Attributes:
        claim: the claim that is there already for this range, None where it must be made.
    """

    rows: int
    next: int
    reason: str
    claim: Claim | None = None

    def elsewhere(self, source: str, messages: pa.Table) -> tuple[str, ...]:
        """Directories in which the claim had messages that compaction or retention has taken since."""
        if self.claim is None or self.rows >= self.claim.rows:
            return ()
        here = set(directories(self.claim.path, messages, source))
        return tuple(one for one in self.claim.directories if one not in here)


def next_cut(track: Track, limits: Limits, *, everything: bool = False) -> Cut | None:
    """Where the next batch ends, None where it must stay open.

    Args:
        everything: close what is open, whatever the limits say.
    """
    buffer, claim = track.buffer, track.ahead.get(track.start)
    if claim is not None:
        # The range is another's choice: it is complete once reading has come to its end.
        if buffer.end >= claim.next or track.gap is not None or track.retired:
            return Cut(buffer.rows_below(claim.next), claim.next, "claim", claim)
        return None
    if track.gap is not None and not buffer.rows:
        return Cut(0, track.gap, "gap")
    closed = buffer.closed(limits)
    if closed is None and buffer.rows and (everything or track.retired or track.gap is not None):
        closed = buffer.rows, "drain" if track.gap is None else "gap"
    return closed and Cut(closed[0], _end(buffer, closed[0]), closed[1])


def _end(buffer: Buffer, rows: int) -> int:
    """Behind the last of the first ``rows``; behind a hole too, where it is the last of all."""
    if rows == buffer.rows:
        return buffer.end
    last: pa.Table = buffer.peek(rows)[0].slice(rows - 1)
    return (last["offset"][0].as_py() or 0) + 1
