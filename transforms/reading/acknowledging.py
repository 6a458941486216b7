"""Acknowledges durable positions at the broker: collected from any thread, sent from the reader's."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from transforms import metrics
from transforms.brokers import Acknowledgement, Partition, Reader
from transforms.errors import TransientError
from transforms.reading.track import Track

__all__ = ["Acknowledger"]

_REPEAT_AFTER = 24 * 3600.0
_LOOK_EVERY = 600.0
# Runners report the end of a successful bundle within minutes, and of a failed one never.
_FAILED_AFTER = 600.0


class Acknowledger:
    """Acknowledges one reader's ranges; each track only moves forward."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._waiting: list[tuple[str, Acknowledgement]] = []
        self._lock = threading.Lock()
        self._done: dict[Partition, tuple[float, Acknowledgement]] = {}
        self._look_at = -math.inf
        self._out: dict[int, tuple[float, Acknowledgement]] = {}

    def found(self, one: Acknowledgement) -> None:
        """Record an acknowledgement by an earlier process, of unknown time."""
        self._done[one.partition] = -math.inf, one
        self._look_at = -math.inf

    def handed_out(self, one: Acknowledgement) -> None:
        """Record a range handed out; :meth:`add` follows."""
        if one.receipts:
            with self._lock:
                self._out[id(one)] = time.monotonic(), one

    def add(self, durable: Iterable[tuple[str, Acknowledgement]]) -> None:
        """Record that everything in these ranges is durable. Thread-safe."""
        durable = list(durable)
        with self._lock:
            self._waiting.extend(durable)
            for _, one in durable:
                self._out.pop(id(one), None)

    def give_back(self) -> None:
        """Have ranges of failed bundles delivered again; otherwise their deadlines are extended."""
        limit = time.monotonic() - _FAILED_AFTER
        with self._lock:
            failed = [key for key, (at, _) in self._out.items() if at < limit]
            receipts = [receipt for key in failed for receipt in self._out.pop(key)[1].receipts]
        if receipts:
            self._reader.release(receipts)

    def flush(self, tracks: Mapping[str, Track]) -> None:
        """Acknowledge the added ranges of tracks that are still read.

        Raises:
            TransientError: the broker did not accept it; the next call tries again.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, []
        due = _merged(waiting, tracks)
        due += self._silent(tracks, {one.partition for one in due})
        if not due:
            return
        try:
            with metrics.timed(metrics.ACK_SECONDS):
                self._reader.acknowledge(due)
        except TransientError:
            with self._lock:
                self._waiting = waiting + self._waiting
            raise
        now = time.monotonic()
        self._done.update({one.partition: (now, one) for one in due})

    def _silent(self, tracks: Mapping[str, Track], due: set[Partition]) -> list[Acknowledgement]:
        """Acknowledgements older than a day: Kafka forgets the offsets of a silent group after a week."""
        if time.monotonic() < self._look_at:
            return []
        self._look_at = time.monotonic() + _LOOK_EVERY
        live = {track.partition for track in tracks.values() if not track.retired}
        self._done = {partition: done for partition, done in self._done.items() if partition in live}
        limit = time.monotonic() - _REPEAT_AFTER
        done = (one for at, one in self._done.values() if at < limit and not one.receipts)
        return [one for one in done if one.partition not in due]


def _merged(
    waiting: Iterable[tuple[str, Acknowledgement]], tracks: Mapping[str, Track]
) -> list[Acknowledgement]:
    """One acknowledgement per track that is still read: its latest, with all receipts."""
    grouped: dict[str, list[Acknowledgement]] = defaultdict(list)
    for key, one in waiting:
        if key in tracks and not tracks[key].retired:
            grouped[key].append(one)
    merged = []
    for key, ones in grouped.items():
        furthest = max(ones, key=lambda one: one.position)
        tracks[key].is_durable(furthest.position)
        merged.append(replace(furthest, receipts=[r for one in ones for r in one.receipts]))
    return merged
