"""The reading engine: one shard of a source, from its broker to claimed batches. No Beam in here.

A shard polls its partitions, closes batches by count, bytes or age, claims each batch in the
lake (:mod:`transforms.reading.claims`) and hands it out. What was handed out is acknowledged at the
broker once it is said to be durable.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import pyarrow as pa

from transforms import metrics, registry
from transforms.brokers import Acknowledgement, OffsetGapError, Partition, Reader
from transforms.entries import checksums, message_ids
from transforms.errors import PermanentError, TransientError, retry
from transforms.lake import Lake
from transforms.layout import directories
from transforms.model import FILE_SCHEMA, MESSAGE_SCHEMA, Batch
from transforms.reading.acknowledging import Acknowledger
from transforms.reading.buffers import Buffer
from transforms.reading.claims import Claim, Claims, check_same, file_stem
from transforms.reading.source import Source
from transforms.reading.tracks import Cut, Track, next_cut

__all__ = ["Ready", "Shard"]

_DISCOVER_EVERY = 10.0
_LONGEST_POLL = 0.1
_ENOUGH_FOR_A_TURN = 32 * 2**20
_CLAIMS_AT_ONCE = 8
_T = TypeVar("_T")


@dataclass(frozen=True)
class Ready:
    """A claimed range that may be taken, from ``start`` to ``next``; ``batch`` is None for a hole."""

    key: str
    start: int
    next: int
    batch: Batch | None
    acknowledgement: Acknowledgement


class Shard:
    """Shard ``number`` of ``of``. Used under :attr:`lock`, but for :meth:`durable`."""

    def __init__(
        self, source: Source, number: int = 0, of: int = 1, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """Open the reader and the lake; nothing is asked of either yet.

        Args:
            stopping: true once the process drains; waiting for what is away ends then.
        """
        self.lock = threading.Lock()
        self.used = time.monotonic()
        self._source = source
        self._stopping = stopping
        self._reader: Reader = registry.broker(source.url).open_reader(
            source.url, source.config, shard=(number, of), group=source.group, exclude=source.exclude
        )
        self._claims = None if source.lake is None else Claims(Lake(source.lake, source.lake_config))
        self._tracks: dict[str, Track] = {}
        self._live: dict[Partition, Track] = {}
        self._discovered = -_DISCOVER_EVERY
        self._broker: str | None = None
        self._claimers = ThreadPoolExecutor(_CLAIMS_AT_ONCE, "claim")
        self._acknowledger = Acknowledger(self._reader)

    def turn(self, seconds: float, positions: Mapping[str, int], *, drain: bool = False) -> list[Ready]:
        """Read for up to ``seconds`` and return what is ready, each range claimed, in order per track.

        Args:
            positions: where the batches of a track go on; a track that is elsewhere goes there.
            drain: read no more and close what is open.

        Raises:
            ConfigurationError: the source cannot be read as it is configured.
            PermanentError: what the broker gives contradicts the lake.
            TransientError: something was still away when the process was told to stop.
        """
        self.used = time.monotonic()
        self._acknowledge()
        if self.used - self._discovered >= _DISCOVER_EVERY:
            self._discover()
        self._align(positions)
        if not drain:
            self._fill(time.monotonic() + seconds)
        ready = list(self._cut_all(drain))
        self._report()
        return ready

    def durable(self, ready: Iterable[tuple[str, Acknowledgement]]) -> None:
        """Everything in these ranges is durable: acknowledged at the next turn. From any thread."""
        self._acknowledger.add(ready)

    def lag(self) -> int:
        """Messages at the broker that are not read yet, as far as known without asking."""
        return sum(self._reader.lag().values())

    def refuse(self, ready: Iterable[Ready]) -> None:
        """Give back ranges that were not taken; they are read again."""
        self._reader.release([r for one in ready for r in one.acknowledgement.receipts])

    def close(self) -> None:
        """Acknowledge what is durable and leave."""
        self._ask(lambda: self._acknowledger.flush(self._tracks), "acknowledge at the broker")
        self._reader.close()
        self._claimers.shutdown()

    def _fill(self, deadline: float) -> None:
        while not self._stopping():
            remaining = deadline - time.monotonic()
            self._poll(min(_LONGEST_POLL, max(remaining, 0.0)))
            if remaining <= 0 or self._has_enough():
                return

    def _poll(self, seconds: float) -> None:
        try:
            fetched = self._reader.poll(seconds)
        except OffsetGapError as error:
            for partition, first in error.gaps.items():
                if partition in self._live:
                    self._note_gap(self._live[partition], first)
            self._assign()
            return
        except TransientError:
            metrics.RETRIES.labels("poll").inc()
            return
        for one in fetched:
            if one.partition in self._live:
                self._live[one.partition].buffer.add(one)

    def _has_enough(self) -> bool:
        if any(track.gap is not None and not track.buffer.rows for track in self._live.values()):
            return True  # a hole needs no reading
        limits, buffers = self._source.limits, [track.buffer for track in self._live.values()]
        full = sum(b.bytes for b in buffers if b.rows >= limits.messages or b.bytes >= limits.bytes)
        return full >= _ENOUGH_FOR_A_TURN or sum(b.bytes for b in buffers) > self._source.memory

    def _cut_all(self, drain: bool) -> Iterator[Ready]:
        largest = self._above_memory()
        tracks = [
            t
            for t in self._tracks.values()
            if next_cut(t, self._source.limits, everything=drain or t is largest)
        ]
        if not tracks:
            return
        self._discover()
        tracks = [t for t in tracks if t.key in self._tracks]
        for ready in self._claimers.map(lambda t: list(self._cut(t, drain or t is largest)), tracks):
            yield from ready
        self._drop_exhausted()
        self._assign()

    def _cut(self, track: Track, everything: bool) -> Iterator[Ready]:
        while cut := next_cut(track, self._source.limits, everything=everything):
            ready = self._take(track, cut)
            if ready is not None:
                yield ready

    def _take(self, track: Track, cut: Cut) -> Ready | None:
        """Claim a cut and take it out of the buffer; None where another's claim was met instead."""
        messages, receipts = track.buffer.peek(cut.rows)
        messages = self._identified(track, messages)
        claim = cut.claim
        if self._claims is not None and self._reader.positions:
            claim = claim or self._claim(track, cut, messages)
            if claim is None:
                return None
            if cut.claim is not None:
                check_same(track.chain, claim, messages)
        track.buffer.pop(cut.rows)
        start, track.start = track.start, claim.next if claim else cut.next
        track.handed_out(messages)
        track.ahead.pop(start, None)
        if cut.reason == "gap" and start:
            metrics.GAPS.labels(metrics.label(track.source)).inc(track.start - start)
        if track.gap is not None and not track.buffer.rows and track.start >= track.gap:
            track.move(track.start, track.ahead)
        acknowledgement = Acknowledgement(track.partition, track.start, str(start), receipts)
        batch = self._batch(track, start, cut, claim, messages)
        return Ready(track.key, start, track.start, batch, acknowledgement)

    def _claim(self, track: Track, cut: Cut, messages: pa.Table) -> Claim | None:
        """Claim a cut; where another's claim stands, learn what lies ahead instead."""
        claims, layout = self._claims, self._source.layout
        assert claims is not None  # noqa: S101 - told apart by the caller
        mine = Claim(cut.next, cut.rows, track.durable, layout.path, layout.format)
        if cut.rows:
            mine = replace(
                mine,
                first=messages["checksum"][0].as_py(),
                first_position=messages["offset"][0].as_py(),
                directories=directories(layout.path, messages, track.source),
            )
        if (
            self._ask(lambda: claims.make(track.chain, track.start, mine), "claim a range in the lake")
            == mine
        ):
            return mine
        track.ahead = self._ask(lambda: claims.ahead(track.chain, track.start), "list claims in the lake")
        return None

    def _identified(self, track: Track, messages: pa.Table) -> pa.Table:
        """``FILE_SCHEMA``: with ids and checksums."""
        ids = message_ids(track.source, track.incarnation, track.partition.number, messages)
        messages = messages.set_column(0, MESSAGE_SCHEMA.field("id"), ids)
        return messages.append_column(FILE_SCHEMA.field("checksum"), checksums(messages))

    def _batch(
        self, track: Track, start: int, cut: Cut, claim: Claim | None, messages: pa.Table
    ) -> Batch | None:
        elsewhere = cut.elsewhere(track.source, messages)
        if not cut.rows and not elsewhere:
            return None
        partition = track.partition.number
        if partition is not None and self._reader.positions:
            name = file_stem(track.source, track.incarnation, partition, start)
        else:
            name = f"{track.source}-{_digest(messages['id'])}"
        layout = claim.layout if claim else self._source.layout
        metrics.BATCHES.labels(metrics.label(track.source), cut.reason).inc()
        return Batch(
            track.source, track.incarnation, partition, messages, name, layout, cut.reason, elsewhere
        )

    def _above_memory(self) -> Track | None:
        tracks = self._tracks.values()
        if sum(track.buffer.bytes for track in tracks) <= self._source.memory:
            return None
        return max(tracks, key=lambda track: track.buffer.bytes)

    def _note_gap(self, track: Track, first: int) -> None:
        if first < track.buffer.end:
            self._discover()
            if not track.retired:
                raise PermanentError(
                    f"{track.source} partition {track.partition.number} ends before position "
                    f"{track.buffer.end}, which was read already: the broker has lost messages that it had "
                    "confirmed. They are safe in the lake, but their positions will be given out again: "
                    "archive from here on under another --source_prefix."
                )
        elif first > track.buffer.end:
            track.lose(first)

    def _discover(self) -> None:
        """Meet new partitions and incarnations, and verify that what was read is of the known ones."""
        found = self._ask(self._reader.discover, "look up topics and partitions")
        self._discovered = time.monotonic()
        for partition, track in list(self._live.items()):
            if found.get(partition) == track.identity:
                track.verified = track.buffer.end
            else:
                track.retire()
                del self._live[partition]
        for partition, identity in found.items():
            if partition not in self._live:
                self._start(partition, identity)
        self._drop_exhausted()
        self._assign()

    def _start(self, partition: Partition, identity: str) -> None:
        """Go on behind what is durable; without any progress, at the first message that is there."""
        source, claims = self._source.name_of(partition.topic), self._claims
        committed = self._ask(lambda: self._reader.committed(partition), "read the group's position")
        incarnation, position = 1, committed[0] if committed else None
        if claims is not None:
            incarnation = self._ask(
                lambda: claims.incarnation(source, self._identity(), identity), "enter the source in the lake"
            )
        track = Track(partition, source, incarnation, identity, 0, Buffer(0))
        if claims is not None:
            position = self._ask(lambda: claims.resume(track.chain, committed), "read claims from the lake")
        track.durable = position or 0
        track.move(track.durable, self._ahead(track, track.durable))
        if position is None and self._reader.positions:
            first = self._ask(lambda: self._reader.earliest(partition), "look up the first position")
            track.gap = first if first > 0 else None
        self._tracks[track.key] = self._live[partition] = track

    def _ahead(self, track: Track, position: int) -> dict[int, Claim]:
        claims = self._claims
        if claims is None or not self._reader.positions:
            return {}
        return self._ask(lambda: claims.ahead(track.chain, position), "list claims in the lake")

    def _align(self, positions: Mapping[str, int]) -> None:
        for key, position in positions.items():
            track = self._tracks.get(key)
            if track is not None and self._reader.positions and track.start != position:
                track.move(position, self._ahead(track, position))
        self._assign()

    def _assign(self) -> None:
        wanted = {p: track.buffer.end for p, track in self._live.items() if track.gap is None}
        self._ask(lambda: self._reader.assign(wanted), "assign partitions")

    def _drop_exhausted(self) -> None:
        self._tracks = {key: track for key, track in self._tracks.items() if not track.exhausted}

    def _acknowledge(self) -> None:
        try:
            self._acknowledger.flush(self._tracks)
        except TransientError:
            metrics.RETRIES.labels("acknowledge at the broker").inc()

    def _report(self) -> None:
        lags: dict[str, int] = defaultdict(int)
        for partition, lag in self._reader.lag().items():
            lags[self._source.name_of(partition.topic)] += lag
        for source, lag in lags.items():
            metrics.LAG.labels(metrics.label(source)).set(lag)
        oldest: dict[str, list[float]] = {track.source: [] for track in self._tracks.values()}
        for track in self._tracks.values():
            oldest[track.source].extend(track.oldest())
        for source, times in oldest.items():
            metrics.oldest(source, min(times, default=None))

    def _identity(self) -> str:
        if self._broker is None:
            self._broker = self._reader.identity()
        return self._broker

    def _ask(self, call: Callable[[], _T], what: str) -> _T:
        on_retry = metrics.RETRIES.labels(what).inc
        return retry(call, what, on_retry=on_retry, stopped=self._stopping)


def _digest(ids: pa.ChunkedArray) -> str:
    """Names a batch of messages without positions: an identical retry meets itself, nothing else can."""
    return hashlib.sha256("\n".join(sorted(ids.to_pylist())).encode()).hexdigest()[:32]
