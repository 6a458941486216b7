"""The assignment of a shard: which partitions it reads, and from which position."""

from __future__ import annotations

import logging
import time
import zlib
from collections import defaultdict
from collections.abc import Mapping

from transforms import metrics
from transforms.brokers import Acknowledgement, Fetched, Mark, Partition, Reader
from transforms.errors import TransientError
from transforms.reading.acknowledging import Acknowledger
from transforms.reading.buffers import Buffer
from transforms.reading.calls import ServerCalls
from transforms.reading.claims import Chain, Claim, Claims, parse_note, rewritten
from transforms.reading.source import Source
from transforms.reading.track import Track
from transforms.reading.unreadable import Standstills
from transforms.retry import retry

__all__ = ["Assignment"]

_DISCOVER_EVERY = 10.0
_LAGS_EVERY = 1.0
_NUMBERS = 1 << 31
# A group that its cluster never heard of has no coordinator for a moment.
_A_MOMENT = 2.0
_WITHOUT_GROUP = 60.0
_log = logging.getLogger(__name__)


class Assignment:
    """The tracks of one shard and their assignment at its reader. Used by the shard only.

    Attributes:
        tracks: by key; includes tracks of deleted topics until they are exhausted.
    """

    def __init__(
        self,
        source: Source,
        reader: Reader,
        claims: Claims | None,
        calls: ServerCalls,
        acknowledger: Acknowledger,
    ) -> None:
        """Create it; broker and lake are not called yet."""
        self.tracks: dict[str, Track] = {}
        self._live: dict[Partition, Track] = {}
        self._source = source
        self._reader = reader
        self._claims = claims
        self._calls = calls
        self._acknowledger = acknowledger
        self._standstills = Standstills(source.name_of)
        self._discovered = -_DISCOVER_EVERY
        self._without_group_until = 0.0
        self._broker: str | None = None
        self._lags_as_of = -_LAGS_EVERY
        self._known_lags: Mapping[str, int] = {}
        metrics.standing(self, self.lags, {})

    @property
    def live(self) -> list[Track]:
        """The tracks being read."""
        return list(self._live.values())

    def add(self, fetched: Fetched) -> None:
        """Append messages to their tracks."""
        if fetched.partition in self._live:
            self._live[fetched.partition].buffer.add(fetched)
            self._standstills.passed(fetched.partition)

    def note_away(self, error: TransientError) -> None:
        """The broker gives nothing now."""
        self._standstills.away(error)

    def note_unreadable(self) -> None:
        """Say and count what the reader could not read since the last call; give up what is to be skipped."""
        found = [one for one in self._reader.unreadable() if one.partition in self._live]
        self._standstills.note(found)
        for one in found:
            track, last = self._live[one.partition], self._source.skipped(one.partition, one.position)
            if last is not None and track.gap is None and track.buffer.end == one.position:
                track.skip(last, self._standstills.given_up(one, last))

    def discover_now_and_then(self) -> None:
        """Call :meth:`discover`, but not at every turn."""
        if time.monotonic() - self._discovered >= _DISCOVER_EVERY:
            self.discover()

    def discover(self) -> None:
        """Find new partitions and incarnations, and verify that read messages belong to known ones."""
        found = self._calls.broker(self._reader.discover, "look up topics and partitions")
        self._discovered = time.monotonic()
        for partition, track in list(self._live.items()):
            if found.get(partition) == track.identity:
                track.verified = track.buffer.end
            else:
                track.retire()
                del self._live[partition]
                metrics.GONE.labels(metrics.label(track.source)).set(partition not in found)
        for partition, identity in found.items():
            if partition not in self._live:
                self._start(partition, identity)
        self.drop_exhausted()
        self.assign()

    def align(self, positions: Mapping[str, int]) -> None:
        """Move tracks to the position of their next batch.

        Ranges of failed bundles are read again this way.
        """
        for track in self.tracks.values() if self._reader.positions else ():
            start = positions.get(track.key, track.durable)
            given_up = positions.get(track.given_up_key, 0)
            wanted = (start, given_up if given_up > start else None)
            if wanted != (track.start, track.given_up):
                self._move(track, *wanted)
        self.assign()

    def assign(self) -> None:
        """Assign the tracks at the reader."""
        tracks = {p: track for p, track in self._live.items() if track.gap is None}
        wanted = {p: track.buffer.end for p, track in tracks.items()}
        marks = {p: track.buffer.mark for p, track in tracks.items() if track.buffer.mark is not None}
        self._calls.broker(lambda: self._reader.assign(wanted, marks), "assign partitions")

    def note_gaps(self, gaps: Mapping[Partition, int]) -> None:
        """Handle gaps: the broker's messages begin after our position, at these first positions.

        Raises:
            PermanentError: they end before a position already read.
        """
        for partition, first in gaps.items():
            if partition in self._live:
                self._note_gap(self._live[partition], first)
        self.assign()

    def note_rewritten(self, reasons: Mapping[Partition, str]) -> None:
        """The broker has another log than the one that was read.

        Raises:
            PermanentError: of the same topic; what is created again under its name is another incarnation.
        """
        self.discover()
        for partition, reason in reasons.items():
            if partition in self._live:
                track = self._live[partition]
                raise rewritten(f"{track.chain.name}, position {track.buffer.end}: {reason}")

    def learn(self, track: Track) -> None:
        """Look up the claims ahead of a track in the lake."""
        track.ahead = self._ahead(track, track.start)

    def drop_exhausted(self) -> None:
        """Drop exhausted tracks."""
        self.tracks = {key: track for key, track in self.tracks.items() if not track.exhausted}

    def report(self) -> None:
        """Update the metrics of every source; deleted topics are dropped."""
        open = defaultdict[str, list[float]](list)
        for track in self.tracks.values():
            open[metrics.label(track.source)].extend(track.oldest())
        oldest = {label: min(times, default=None) for label, times in open.items()}
        metrics.standing(self, self.lags, oldest)

    def close(self) -> None:
        """Stop reporting metrics."""
        metrics.left(self)

    def lags(self) -> Mapping[str, int]:
        """By the labels of sources. From any thread, and as of a second ago at most."""
        now = time.monotonic()
        if now - self._lags_as_of >= _LAGS_EVERY:
            lags = defaultdict[str, int](int)
            for partition, lag in self._reader.lag().items():
                lags[metrics.label(self._source.name_of(partition.topic))] += lag
            self._lags_as_of, self._known_lags = now, lags
        return self._known_lags

    def _move(self, track: Track, start: int, given_up: int | None) -> None:
        ahead = self._ahead(track, start)
        if ahead and start not in ahead and given_up is None:
            # A listing made while others claim may miss one claim and show the next.
            ahead = self._ahead(track, start)
        track.move(start, given_up, ahead)
        if ahead and start not in ahead and given_up is None:
            # Claims are made in sequence: this range was archived, and has expired since.
            track.gap = min(ahead)

    def _note_gap(self, track: Track, first: int) -> None:
        if first < track.buffer.end:
            self.discover()
            if not track.retired:
                raise rewritten(f"{track.chain.name}: it ends before position {track.buffer.end}")
        elif first > track.buffer.end:
            track.lose(first)
        track.buffer.mark = None  # the message before it may be gone

    def _start(self, partition: Partition, identity: str) -> None:
        """Start after the durable position; without any progress, at the first available message.

        Without the lake nothing is started, because it holds the positions.
        """
        committed = self._committed(partition)
        source = self._source.name_of(partition.topic)
        entered = self._enter(Chain(source, 1, partition.number or 0), identity, committed)
        if entered is None:
            return
        incarnation, found = entered
        position, mark = found or (None, None)
        if committed is not None and position == committed[0]:
            self._acknowledger.found(Acknowledgement(partition, *committed))
        metrics.begin(source)
        track = Track(partition, source, incarnation, identity, 0, Buffer(0))
        track.durable = position or 0
        track.claimed = track.durable, mark
        track.move(track.durable, None, self._ahead(track, track.durable))
        if position is None and self._reader.positions:
            first = self._calls.broker(lambda: self._reader.earliest(partition), "look up the first position")
            track.gap = first if first > 0 else None
        self.tracks[track.key] = self._live[partition] = track
        if incarnation > 1 and not position:
            self._finish(Chain(source, incarnation - 1, partition.number or 0), partition)

    def _finish(self, chain: Chain, partition: Partition) -> None:
        """Index what the last claims of a deleted topic left in the lake, if nobody did.

        Nothing of its successor is durable yet, so the process that worked on it may have ended before.
        """
        claims = self._claims
        earlier = Track(partition, chain.source, chain.incarnation, "", 0, Buffer(0), retired=True)
        if claims is None or earlier.key in self.tracks or not self._reader.positions:
            return
        found = self._calls.lake(lambda: claims.resume(chain, None), "read claims in the lake")
        if found is not None:
            earlier.durable = found[0]
            earlier.move(found[0], None, self._ahead(earlier, found[0]))
            self.tracks[earlier.key] = earlier

    def _committed(self, partition: Partition) -> tuple[int, str] | None:
        """The group's position; None where it is not to be had and the claims say how far reading came."""

        def ask() -> tuple[int, str] | None:
            return self._reader.committed(partition)

        what = "read the group's position"
        if self._claims is None or not self._reader.positions:
            return self._calls.broker(ask, what)
        if time.monotonic() < self._without_group_until:
            return None
        try:
            return retry(ask, what, give_up_after=_A_MOMENT)
        except TransientError:
            _log.warning("going on where the claims in the lake say, without the group's position")
            self._without_group_until = time.monotonic() + _WITHOUT_GROUP
            return None

    def _enter(
        self, chain: Chain, identity: str, committed: tuple[int, str] | None
    ) -> tuple[int, tuple[int, Mark | None] | None] | None:
        """A topic's incarnation and the position behind its durable messages; None without the lake."""
        claims = self._claims
        if claims is None:
            return self._without_claims(identity, committed)
        broker = self._calls.broker(self._identity, "look up the broker's identity")

        def enter() -> tuple[int, tuple[int, Mark | None] | None]:
            number = claims.incarnation(chain.source, broker, identity)
            return number, claims.resume(Chain(chain.source, number, chain.partition), committed)

        return self._calls.lake(enter, "enter the source in the lake")

    def _without_claims(
        self, identity: str, committed: tuple[int, str] | None
    ) -> tuple[int, tuple[int, Mark | None] | None]:
        """As :meth:`_enter`; no number of an earlier incarnation is known, so each has one of its own."""
        number = zlib.crc32(identity.encode()) % _NUMBERS if self._reader.positions else 1
        own = committed is not None and parse_note(committed[1])[1] in {1, number}
        return number, (committed[0], None) if committed and own else None

    def _ahead(self, track: Track, position: int) -> dict[int, Claim]:
        """The claims from a position on; empty without the lake, where they are found one by one."""
        claims = self._claims
        if claims is None or not self._reader.positions:
            return {}
        return self._calls.lake(lambda: claims.ahead(track.chain, position), "list claims in the lake") or {}

    def _identity(self) -> str:
        if self._broker is None:
            self._broker = self._reader.identity()
        return self._broker
