"""Telling the broker what is durable: collected from any thread, sent from the reader's."""

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

_AGAIN_AFTER = 24 * 3600.0
# Runners tell the end of a bundle that succeeded within minutes, and of one that failed never.
_FAILED_AFTER = 600.0


class Acknowledger:
    """Acknowledges one reader's ranges, each track only ever further."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._waiting: list[tuple[str, Acknowledgement]] = []
        self._lock = threading.Lock()
        self._done: dict[Partition, tuple[float, Acknowledgement]] = {}
        self._out: dict[int, tuple[float, Acknowledgement]] = {}

    def found(self, one: Acknowledgement) -> None:
        """The broker was told this by an earlier process, nobody knows when."""
        self._done[one.partition] = -math.inf, one

    def handed_out(self, one: Acknowledgement) -> None:
        """This is on its way; :meth:`add` is to follow."""
        if one.receipts:
            with self._lock:
                self._out[id(one)] = time.monotonic(), one

    def add(self, durable: Iterable[tuple[str, Acknowledgement]]) -> None:
        """Everything in these ranges is durable. From any thread."""
        durable = list(durable)
        with self._lock:
            self._waiting.extend(durable)
            for _, one in durable:
                self._out.pop(id(one), None)

    def give_back(self) -> None:
        """Have what was handed out in vain delivered again: its deadlines are extended otherwise."""
        limit = time.monotonic() - _FAILED_AFTER
        with self._lock:
            failed = [key for key, (at, _) in self._out.items() if at < limit]
            receipts = [receipt for key in failed for receipt in self._out.pop(key)[1].receipts]
        if receipts:
            self._reader.release(receipts)

    def flush(self, tracks: Mapping[str, Track]) -> None:
        """Acknowledge what was added, of tracks that are still read.

        Raises:
            TransientError: the broker did not take it; the same is tried at the next call.
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
        """What was acknowledged a day ago: Kafka forgets the offsets of a group that is silent for a week."""
        live = {track.partition for track in tracks.values() if not track.retired}
        self._done = {partition: done for partition, done in self._done.items() if partition in live}
        limit = time.monotonic() - _AGAIN_AFTER
        done = (one for at, one in self._done.values() if at < limit and not one.receipts)
        return [one for one in done if one.partition not in due]


def _merged(
    waiting: Iterable[tuple[str, Acknowledgement]], tracks: Mapping[str, Track]
) -> list[Acknowledgement]:
    """One acknowledgement per track that is still read: its furthest, with all receipts."""
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
