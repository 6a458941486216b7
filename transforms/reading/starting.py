"""Where new partitions begin: behind what is durable, as the lake's claims and the broker say."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from transforms import metrics
from transforms.brokers import Acknowledgement, Partition, Reader
from transforms.errors import TransientError
from transforms.reading.acknowledging import Acknowledger
from transforms.reading.buffers import Buffer
from transforms.reading.calls import ServerCalls
from transforms.reading.claims import Chain, Claims, parse_note
from transforms.reading.newest import Resumed, resume, resume_own
from transforms.reading.sinks import Used, enter
from transforms.reading.source import Source
from transforms.reading.track import Track
from transforms.retry import retry

__all__ = ["Starting"]

_AT_ONCE = 32
_NUMBERS = 1 << 31
# A group that its cluster never heard of has no coordinator for a moment.
_A_MOMENT = 2.0
_WITHOUT_GROUP = 60.0
_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_R = TypeVar("_R")


class Starting:
    """Begins partitions of one shard, many at once. Used by the shard only."""

    def __init__(
        self,
        source: Source,
        reader: Reader,
        claims: Claims | None,
        calls: ServerCalls,
        acknowledger: Acknowledger,
    ) -> None:
        """Create it; broker and lake are not called yet."""
        self._source = source
        self._reader = reader
        self._claims = claims
        self._calls = calls
        self._acknowledger = acknowledger
        self._without_group_until = 0.0
        self._broker: str | None = None
        self._since_us: int | None = None

    def tracks(self, new: Mapping[Partition, str], known: Collection[str]) -> list[Track]:
        """Tracks of these partitions, after their durable positions.

        Without any progress one begins at the first available message. What cannot be started now is left
        out; without the lake that is everything, because it holds the positions.

        Args:
            new: each with its topic's incarnation.
            known: keys of the tracks that are there.

        Returns:
            Also retired tracks of earlier incarnations whose last claims nobody may have indexed.
        """
        committed = self._committed(new)
        chains = self._chains(new)
        resumed = self._resumed(chains, committed)
        first = self._first([partition for partition, found in resumed.items() if found is None])
        tracks = []
        for partition, found in resumed.items():
            if found is None and partition not in first:
                continue
            track = _track(partition, chains[partition], new[partition], found)
            track.gap = first.get(partition, 0) or None
            self._note_committed(track, found, committed.get(partition))
            metrics.begin(track.source)
            tracks.append(track)
        return tracks + self._earlier([track for track in tracks if not track.durable], known)

    def _committed(self, new: Collection[Partition]) -> Mapping[Partition, tuple[int, str]]:
        """The group's positions; none where they are not to be had: the claims say how far reading came."""

        def ask() -> Mapping[Partition, tuple[int, str]]:
            return self._reader.committed(new)

        what = "read the group's position"
        if self._claims is None or not self._reader.positions:
            return self._calls.broker(ask, what)
        if time.monotonic() < self._without_group_until:
            return {}
        try:
            return retry(ask, what, give_up_after=_A_MOMENT)
        except TransientError:
            _log.warning("going on where the claims in the lake say, without the group's position")
            self._without_group_until = time.monotonic() + _WITHOUT_GROUP
            return {}

    def _chains(self, new: Mapping[Partition, str]) -> dict[Partition, Chain]:
        """The chain of each partition; none without the lake."""
        topics = {(partition.topic, identity) for partition, identity in new.items()}
        numbers = self._numbers(topics) if topics else {}
        return {
            partition: Chain(self._source.name_of(partition.topic), number, partition.number or 0)
            for partition, identity in new.items()
            if (number := numbers.get((partition.topic, identity))) is not None
        }

    def _numbers(self, topics: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], int | None]:
        """Numbers of incarnations, each asked for once."""
        claims = self._claims
        if claims is None:
            return {one: self._own_number(one[1]) for one in topics}
        broker = self._calls.broker(self._identity, "look up the broker's identity")
        self._calls.lake(claims.reach, "read the lake")  # one says so where it is away, not all

        def number(one: tuple[str, str]) -> int | None:
            source = self._source.name_of(one[0])
            return self._calls.lake(
                lambda: claims.incarnation(source, broker, one[1]), "enter the source in the lake"
            )

        return _at_once(number, topics)

    def _own_number(self, identity: str) -> int:
        """Without claims no number of an earlier incarnation is known, so each has one of its own."""
        return zlib.crc32(identity.encode()) % _NUMBERS if self._reader.positions else 1

    def _resumed(
        self, chains: Mapping[Partition, Chain], committed: Mapping[Partition, tuple[int, str]]
    ) -> Mapping[Partition, Resumed | None]:
        """Where each goes on, None where nothing is durable; without those of which the lake says nothing."""
        claims = self._claims
        if claims is None:
            return {p: _without_claims(chain, committed.get(p)) for p, chain in chains.items()}

        used = self._used_sinks(claims) if chains else None
        if used is None:
            return {}
        if self._since_us is None:
            self._since_us = used.since_us

        def resumed(partition: Partition) -> tuple[Resumed | None] | None:
            return self._calls.lake(lambda: (ask(partition),), "read claims in the lake")

        def ask(partition: Partition) -> Resumed | None:
            if used.alone:
                return resume(claims, chains[partition], committed.get(partition))
            return resume_own(claims, chains[partition], self._source.sinks.id, self._since_us or 0)

        found = {p: one[0] for p, one in _at_once(resumed, chains).items() if one is not None}
        self._say_what_lacks(sorted(chains[p].name for p, one in found.items() if one and one.lacking))
        return found

    def _used_sinks(self, claims: Claims) -> Used | None:
        return self._calls.lake(
            lambda: enter(claims.lake, self._source.group, self._source.sinks), "read which sinks were used"
        )

    def _say_what_lacks(self, names: Sequence[str]) -> None:
        if names:
            _log.warning(
                "other jobs archived to %s with another `index` or `metadata`: those of this job may lack "
                "what was archived from %s%s before now; `persistor rebuild` enters it",
                self._source.lake,
                ", ".join(names[:3]),
                f" and {len(names) - 3} other partitions" if len(names) > 3 else "",
            )

    def _first(self, partitions: list[Partition]) -> Mapping[Partition, int]:
        if not self._reader.positions or not partitions:
            return dict.fromkeys(partitions, 0)
        return self._calls.broker(lambda: self._reader.earliest(partitions), "look up the first position")

    def _note_committed(self, track: Track, found: Resumed | None, committed: tuple[int, str] | None) -> None:
        if committed is not None and found is not None and found.position == committed[0]:
            self._acknowledger.found(Acknowledgement(track.partition, *committed))

    def _earlier(self, begun: Iterable[Track], known: Collection[str]) -> list[Track]:
        """Tracks that index what the last claims of deleted topics left in the lake, if nobody did.

        Nothing of a successor is durable yet, so the process that worked on it may have ended before.
        """
        if self._claims is None or not self._reader.positions:
            return []
        chains = {
            track.partition: Chain(track.source, track.incarnation - 1, track.chain.partition)
            for track in begun
            if track.incarnation > 1
        }
        resumed = self._resumed(chains, {})
        tracks = [_track(p, chains[p], "", found) for p, found in resumed.items() if found is not None]
        for track in tracks:
            track.retired = True
        return [track for track in tracks if track.key not in known]

    def _identity(self) -> str:
        if self._broker is None:
            self._broker = self._reader.identity()
        return self._broker


def _track(partition: Partition, chain: Chain, identity: str, found: Resumed | None) -> Track:
    track = Track(partition, chain.source, chain.incarnation, identity, 0, Buffer(0))
    found = found or Resumed(0)
    track.durable = found.position
    track.claimed = found.position, found.mark
    track.move(found.position, None, found.ahead)
    return track


def _without_claims(chain: Chain, committed: tuple[int, str] | None) -> Resumed | None:
    own = committed is not None and parse_note(committed[1])[1] in {1, chain.incarnation}
    return Resumed(committed[0]) if committed and own else None


def _at_once(call: Callable[[_T], _R], several: Iterable[_T]) -> dict[_T, _R]:
    """Call for each, on several threads."""
    several = list(several)
    with ThreadPoolExecutor(_AT_ONCE, "start") as pool:
        return dict(zip(several, pool.map(call, several), strict=True))
