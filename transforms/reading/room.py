"""The room that the memory of a process leaves one shard for open batches."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from transforms.brokers import Fetched
from transforms.memory import HELD, Bound
from transforms.reading.track import Track

__all__ = ["Room"]


class Room:
    """Measures the open batches of one shard and chooses those to be closed when memory is full.

    Nothing is read above the high mark. The largest open batches are closed until they are below the low
    mark, so that at the bound files become smaller, but reading and writing go on at the same rate.
    """

    def __init__(self, bound: Bound) -> None:
        """Nothing is open yet."""
        self._bound = bound
        self._open = 0

    @property
    def full(self) -> bool:
        """Whether this process holds more than it may."""
        return HELD.bytes > self._bound.high

    def measure(self, tracks: Iterable[Track]) -> None:
        """Count what is open."""
        self._hold(sum(track.buffer.held for track in tracks))

    def grew(self, fetched: Iterable[Fetched]) -> None:
        """Count what was read since."""
        self._hold(self._open + sum(one.messages.nbytes for one in fetched))

    def to_close(self, tracks: Collection[Track]) -> set[str]:
        """Keys of the tracks whose batches are to be closed now, whatever their limits."""
        if not self.full:
            return set()
        excess, keys = HELD.bytes - self._bound.low, set[str]()
        for track in sorted(tracks, key=lambda track: track.buffer.held, reverse=True):
            if excess <= 0:
                break
            if track.closable:
                keys.add(track.key)
                excess -= track.buffer.held
        return keys

    def stuck(self, tracks: Iterable[Track]) -> Track | None:
        """The track to be read alone, where memory is full of ranges that others have claimed.

        Such a range is written only as a whole.
        """
        waiting = [track for track in tracks if track.buffer.rows]
        if not self.full or not waiting or any(track.closable for track in waiting):
            return None
        return max(waiting, key=lambda track: track.buffer.held)

    def close(self) -> None:
        """The shard holds nothing any more."""
        self._hold(0)

    def _hold(self, bytes: int) -> None:
        self._open = bytes
        HELD.hold(self, bytes)
