"""The assignment of a shard: which partitions it reads, and from which position."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from types import MappingProxyType

from transforms import metrics
from transforms.brokers import Fetched, Partition, Reader
from transforms.errors import TransientError
from transforms.reading.acknowledging import Acknowledger
from transforms.reading.calls import ServerCalls
from transforms.reading.claims import Claim, Claims, rewritten
from transforms.reading.source import Source
from transforms.reading.starting import Starting
from transforms.reading.track import Track
from transforms.reading.unreadable import Standstills

__all__ = ["NOTHING_SAVED", "Assignment"]

NOTHING_SAVED: Mapping[str, int] = MappingProxyType({})

_DISCOVER_EVERY = 10.0
# Of what follows the number of partitions: times its own time until it is done again.
_SHARE = 100
_PORTION = 500


class Assignment:
    """The tracks of one shard and their assignment at its reader. Used by the shard only.

    Attributes:
        tracks: by key; includes tracks of deleted topics until they are exhausted.
        busy: of these the ones that are not idle: what a turn costs follows them.
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
        self.busy: dict[str, Track] = {}
        self._alone: Track | None = None
        self._live: dict[Partition, Track] = {}
        self._found: dict[Partition, str] = {}
        self._source = source
        self._reader = reader
        self._claims = claims
        self._calls = calls
        self._starting = Starting(source, reader, claims, calls, acknowledger)
        self._standstills = Standstills(source.name_of)
        self._discover_at = self._count_at = -math.inf
        self._known_lags: Mapping[str, int] = {}
        metrics.standing(self, self.lags, {})

    @property
    def starting(self) -> bool:
        """Whether partitions that were found are still to be started."""
        return bool(self._found)

    def add(self, fetched: Fetched) -> None:
        """Append messages to their tracks."""
        track = self._live.get(fetched.partition)
        if track is not None:
            track.buffer.add(fetched)
            self.busy[track.key] = track
            self._standstills.passed(fetched.partition)

    def note_away(self, error: TransientError) -> None:
        """The broker gives nothing now."""
        self._standstills.away(error)
        self.note_unreadable()

    def note_unreadable(self) -> None:
        """Say and count what the reader could not read since the last call; give up what is to be skipped."""
        found = [one for one in self._reader.unreadable() if one.partition in self._live]
        self._standstills.note(found)
        for one in found:
            track, last = self._live[one.partition], self._source.skipped(one.partition, one.position)
            if last is not None and track.gap is None and track.buffer.end == one.position:
                track.skip(last, self._standstills.given_up(one, last))
                self.busy[track.key] = track

    def discover_now_and_then(self) -> None:
        """Call :meth:`discover`, but not at every turn; go on starting what it found."""
        if self._found:
            self._start_some()
            self.assign()
        elif time.monotonic() >= self._discover_at:
            self.discover()

    def discover(self) -> None:
        """Find new partitions and incarnations, and verify that read messages belong to known ones."""
        begun = time.thread_time()
        found = self._calls.broker(self._reader.discover, "look up topics and partitions")
        for partition, track in list(self._live.items()):
            if found.get(partition) == track.identity:
                track.verified = track.buffer.end
            else:
                track.retire()
                del self._live[partition]
                self._standstills.left(partition)
                self.busy[track.key] = track
                metrics.GONE.labels(metrics.label(track.source)).set(partition not in found)
        self._found = {p: identity for p, identity in found.items() if p not in self._live}
        took = time.thread_time() - begun
        self._discover_at = time.monotonic() + max(_DISCOVER_EVERY, _SHARE * took)
        self._start_some()
        self.drop_exhausted()
        self.assign()

    def verify(self, tracks: Collection[Track]) -> None:
        """As :meth:`discover` of these tracks only, unless one of them has changed."""
        live = {track.partition: track for track in tracks if not track.retired}
        if not live:
            return
        found = self._calls.broker(lambda: self._reader.incarnations(live), "look up topics")
        if any(found.get(partition) != track.identity for partition, track in live.items()):
            self.discover()
            return
        for track in live.values():
            track.verified = track.buffer.end

    def go_back(self, saved: Mapping[str, int]) -> None:
        """Move tracks to what was saved, others behind what is durable: what followed is read again."""
        for track in self.tracks.values() if self._reader.positions else ():
            start = saved.get(track.key, track.durable)
            if (start, None) != (track.start, track.given_up):
                self._move(track, start, None)

    def take_back(self, ranges: Sequence[tuple[str, int, bool]]) -> None:
        """Have ranges read again that were handed out last: track, start, and whether it was given up."""
        for key in dict.fromkeys(key for key, _, _ in ranges):
            track = self.tracks.get(key)
            of_track = [(start, given_up) for one, start, given_up in ranges if one == key]
            if track is None or not self._reader.positions:
                continue
            start = min((at for at, given_up in of_track if not given_up), default=track.start)
            first, given_up = of_track[0]
            self._move(track, start, first if given_up and first > start else None)

    def settle(self) -> None:
        """Assign the tracks if one has moved, or one that cannot be read is to be tried again."""
        if self._standstills.any or any(track.moved for track in self.busy.values()):
            self.assign()

    def read_alone(self, track: Track | None) -> None:
        """Read only one track for now, or all again."""
        if track is not self._alone:
            self._alone = track
            self.assign()

    def assign(self) -> None:
        """Assign the tracks at the reader."""
        alone = self._alone
        tracks = {p: t for p, t in self._live.items() if t.gap is None and (alone is None or t is alone)}
        wanted = {p: track.buffer.end for p, track in tracks.items()}
        marks = {p: track.buffer.mark for p, track in tracks.items() if track.buffer.mark is not None}
        self._calls.broker(lambda: self._reader.assign(wanted, marks), "assign partitions")
        for track in self.busy.values():
            track.moved = False

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
        for key in [key for key, track in self.busy.items() if track.exhausted]:
            del self.busy[key]
            self.tracks.pop(key, None)

    def report(self) -> None:
        """Update the metrics of every source."""
        self.busy = {key: track for key, track in self.busy.items() if track.moved or not track.idle}
        open = defaultdict[str, list[float]](list)
        for track in self.busy.values():
            open[metrics.label(track.source)].extend(track.oldest())
        oldest = {label: min(times, default=None) for label, times in open.items()}
        metrics.standing(self, self.lags, oldest)

    def close(self) -> None:
        """Stop reporting metrics."""
        self._standstills.close()
        metrics.left(self)

    def lags(self) -> Mapping[str, int]:
        """By the labels of sources. From any thread; counted anew for a hundredth of the time at most."""
        if time.monotonic() >= self._count_at:
            begun = time.thread_time()
            lags = defaultdict[str, int](int)
            for partition, lag in self._reader.lag().items():
                lags[metrics.label(self._source.name_of(partition.topic))] += lag
            self._known_lags = lags
            self._count_at = time.monotonic() + _SHARE * (time.thread_time() - begun)
        return self._known_lags

    def _move(self, track: Track, start: int, given_up: int | None) -> None:
        ahead = self._ahead(track, start)
        if ahead and start not in ahead and given_up is None:
            # A listing made while others claim may miss one claim and show the next.
            ahead = self._ahead(track, start)
        track.move(start, given_up, ahead)
        self.busy[track.key] = track
        if ahead and start not in ahead and given_up is None:
            # Claims are made in sequence: this range was archived, its claims folded or expired.
            track.pass_over(min(ahead))

    def _note_gap(self, track: Track, first: int) -> None:
        if first < track.buffer.end:
            self.discover()
            if not track.retired:
                raise rewritten(f"{track.chain.name}: it ends before position {track.buffer.end}")
        elif first > track.buffer.end:
            track.lose(first)
            self.busy[track.key] = track
        track.buffer.mark = None  # the message before it may be gone

    def _start_some(self) -> None:
        """Start a portion of what was found, so that reading begins and a stop is obeyed meanwhile."""
        portion = dict(islice(self._found.items(), _PORTION))
        if not portion:
            return
        for track in self._starting.tracks(portion, self.tracks):
            self.tracks[track.key] = self.busy[track.key] = track
            if not track.retired:
                self._live[track.partition] = track
        self._found = {p: identity for p, identity in self._found.items() if p not in portion}

    def _ahead(self, track: Track, position: int) -> dict[int, Claim]:
        """The claims from a position on; empty without the lake, where they are found one by one."""
        claims = self._claims
        if claims is None or not self._reader.positions:
            return {}
        return self._calls.lake(lambda: claims.ahead(track.chain, position), "list claims in the lake") or {}
