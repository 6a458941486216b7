"""The reading engine: one shard of a source, from its broker to claimed batches, without Beam.

A shard polls its partitions, closes batches by count, bytes or age, claims each batch in the
lake (:mod:`transforms.reading.claims`) and hands it out. A batch is acknowledged at the broker once it is
reported as durable.

If the lake may be given up, batches become dead letters after that time, and the positions in claims and
broker stay. Once the lake is back, one claim without rows covers that range; only after it anything is
acknowledged. A process that ends before that leaves the range to the next one, which reads it again: at
least once, never lost.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from transforms import metrics, registry
from transforms.brokers import Acknowledgement, LogRewrittenError, OffsetGapError, Reader
from transforms.errors import TransientError
from transforms.lake import Lake
from transforms.memory import return_what_is_freed
from transforms.model import Batch
from transforms.reading.acknowledging import Acknowledger
from transforms.reading.assignment import NOTHING_SAVED, Assignment
from transforms.reading.batches import count_gap, fitted, identified, made
from transforms.reading.calls import ServerCalls
from transforms.reading.claims import Claim, Claims, check_same, described, note, now_us
from transforms.reading.room import Room
from transforms.reading.source import Source
from transforms.reading.track import Cut, Track, next_cut

__all__ = ["Ready", "Shard"]

_LONGEST_POLL = 0.1
_ENOUGH_FOR_A_TURN = 32 * 2**20
_CLAIMS_AT_ONCE = 8


@dataclass(frozen=True)
class Ready:
    """A range that is ready, from ``start`` to ``next``.

    Attributes:
        key: name of its track.
        at: names this range and who read it, and so how far this reader came.
        batch: None for a hole.
        acknowledgement: the acknowledgement once the batch is durable; None if the range was given up and
            is not claimed yet.
    """

    key: str
    at: str
    start: int
    next: int
    batch: Batch | None
    acknowledgement: Acknowledgement | None


class Shard:
    """Shard ``number`` of ``of``. Used under :attr:`lock`, except :meth:`durable`."""

    def __init__(
        self, source: Source, number: int = 0, of: int = 1, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """Open the reader and the lake; neither is called yet.

        Args:
            stopping: true once the process drains; waiting for servers then ends.
        """
        return_what_is_freed()
        self.lock = threading.Lock()
        self.used = time.monotonic()
        metrics.SHARDS.set(of)
        self._source = source
        self._stopping = stopping
        self._reader: Reader = registry.broker(source.url).open_reader(
            source.url,
            source.config,
            shard=(number, of),
            group=source.group,
            exclude=source.exclude,
            memory=source.bound.ahead,
        )
        self._room = Room(source.bound)
        self._claims = None if source.lake is None else Claims(Lake(source.lake, source.lake_config))
        self._calls = ServerCalls(stopping, source.give_up_after)
        self._acknowledger = Acknowledger(self._reader)
        self._assignment = Assignment(source, self._reader, self._claims, self._calls, self._acknowledger)
        self._claimers = ThreadPoolExecutor(_CLAIMS_AT_ONCE, "claim")
        self._name, self._handed_out = uuid.uuid4().hex[:12], 0
        self._at: str | None = None

    def turn(
        self, seconds: float, at: str, saved: Mapping[str, int] = NOTHING_SAVED, *, drain: bool = False
    ) -> list[Ready]:
        """Read for up to ``seconds`` and return ready ranges, in order per track.

        Args:
            at: of the last range that was taken; where that is not the last one handed out, others were
                handed out in vain, and are read again.
            saved: by key, positions to begin at then; the others begin after what is durable.
            drain: stop reading and close open batches.

        Raises:
            ConfigurationError: the source cannot be read with these settings.
            PermanentError: the broker's messages contradict the lake.
            TransientError: a server still did not answer when the process was asked to stop.
        """
        self.used = time.monotonic()
        self._acknowledge()
        self._assignment.discover_now_and_then()
        if at != self._at:
            self._assignment.go_back(saved)
            self._at = at
        self._assignment.settle()
        if not drain:
            self._fill(time.monotonic() + seconds)
        self._assignment.report()  # before calling the lake, which may not answer for long
        self._look_for_lake()
        self._at = None  # if this fails, what was cut by then is read again
        # Without the lake, a process leaves open batches to the next one.
        ready = [] if drain and self._calls.without_lake else list(self._cut_all(drain))
        self._at = at
        return [self._numbered(one) for one in ready]

    def durable(self, ready: Iterable[tuple[str, Acknowledgement]]) -> None:
        """Record ranges as durable; the next turn acknowledges them. Thread-safe."""
        self._acknowledger.add(ready)

    def lag(self) -> int:
        """Messages at the broker that are not read yet, as far as known without a request."""
        return sum(self._assignment.lags().values())

    def lags(self) -> Mapping[str, int]:
        """As :meth:`lag`, by the labels of sources."""
        return self._assignment.lags()

    def refuse(self, ready: Sequence[Ready], at: str) -> None:
        """Return ranges that were not taken; they are read again. ``at`` is of the last one that was."""
        self._assignment.take_back([(r.key, r.start, r.acknowledgement is None) for r in ready])
        self._at = at
        self._reader.release(
            [r for one in ready if one.acknowledgement for r in one.acknowledgement.receipts]
        )

    def close(self) -> None:
        """Acknowledge what is durable, as far as the broker takes it now, and leave."""
        self._assignment.close()
        self._room.close()
        self._acknowledge()
        self._reader.close()
        self._claimers.shutdown()

    @property
    def reads_on(self) -> bool:
        """Whether another turn would find more messages, and room for them."""
        return not self._room.full and bool(self.lag())

    def _fill(self, deadline: float) -> None:
        tracks = self._assignment.busy.values()
        self._room.measure(tracks)
        stuck = self._room.stuck(tracks)
        self._assignment.read_alone(stuck)
        if self._room.full and stuck is None:
            if not self._room.to_close(tracks):  # others fill it
                time.sleep(max(0.0, min(_LONGEST_POLL, deadline - time.monotonic())))
            return
        while not self._stopping():
            remaining = 0.0 if self._assignment.starting else deadline - time.monotonic()
            self._poll(min(_LONGEST_POLL, max(remaining, 0.0)))
            if remaining <= 0 or self._has_enough():
                return

    def _poll(self, seconds: float) -> None:
        try:
            fetched = self._reader.poll(seconds)
        except OffsetGapError as error:
            self._assignment.note_gaps(error.gaps)
            return
        except LogRewrittenError as error:
            self._assignment.note_rewritten(error.reasons)
            return
        except TransientError as error:
            metrics.RETRIES.labels("broker").inc()
            self._assignment.note_away(error)
            return
        for one in fetched:
            self._assignment.add(one)
        self._room.grew(fetched)
        self._assignment.note_unreadable()

    def _has_enough(self) -> bool:
        tracks = self._assignment.busy.values()
        if any(track.gap is not None and not track.buffer.rows for track in tracks):
            return True  # a hole needs no reading
        limits = self._source.limits
        full = sum(track.buffer.bytes for track in tracks if track.is_full(limits))
        return full >= _ENOUGH_FOR_A_TURN or self._room.full

    def _cut_all(self, drain: bool) -> Iterator[Ready]:
        full = self._room.to_close(self._assignment.busy.values())

        def why(track: Track) -> str | None:
            return "drain" if drain else "memory" if track.key in full else None

        tracks = [t for t in self._assignment.busy.values() if self._next_cut(t, why(t))]
        if not tracks:
            return
        self._assignment.verify(tracks)
        tracks = [t for t in tracks if t.key in self._assignment.tracks]
        for ready in self._claimers.map(lambda t: list(self._cut(t, why(t))), tracks):
            yield from ready
        self._assignment.drop_exhausted()
        self._assignment.settle()

    def _numbered(self, ready: Ready) -> Ready:
        self._handed_out += 1
        self._at = f"{self._name}:{self._handed_out}"
        return replace(ready, at=self._at)

    def _cut(self, track: Track, closing: str | None) -> Iterator[Ready]:
        while cut := self._next_cut(track, closing):
            ready = self._take(track, cut)
            if ready is not None:
                yield ready

    def _next_cut(self, track: Track, closing: str | None) -> Cut | None:
        without_lake = self._calls.without_lake
        return next_cut(track, self._source.limits, closing=closing, without_lake=without_lake)

    def _take(self, track: Track, cut: Cut) -> Ready | None:
        """Claim a cut and take it out of the buffer.

        None if it is to grow first, or another job's claim was found.
        """
        paths = list[str]()
        if cut.claim is None and cut.rows:
            fits = fitted(track, cut, track.buffer.peek(cut.rows)[0], self._source.layout)
            if fits is None:
                return None
            cut, paths = fits
        messages, receipts = self._peek(track, cut.rows)
        claim = cut.claim
        if self._claims is not None and self._reader.positions:
            if claim is None and self._calls.without_lake:
                return self._give_up(track, cut, messages)
            claim = claim or self._claim(self._claims, track, cut, messages, paths)
            if claim is None:
                track.identified = messages
                return None
            if cut.claim is not None:
                epoch = (track.buffer.mark_behind(cut.rows) or (0, None))[1]
                check_same(track.chain, claim, messages, epoch)
            track.claimed = claim.next, claim.mark
        start = track.start
        count_gap(track, cut)
        track.take(cut)
        track.handed_out(messages)
        batch = self._batch(track, start, cut, claim, messages)
        said = note(track.incarnation, start)
        acknowledgement = Acknowledgement(track.partition, track.start, said, receipts)
        self._acknowledger.handed_out(acknowledgement)
        return Ready(track.key, "", start, track.start, batch, acknowledgement)

    def _give_up(self, track: Track, cut: Cut, messages: pa.Table) -> Ready:
        """Hand out a cut without a claim, as dead letters."""
        start = track.unclaimed
        count_gap(track, cut)
        track.give_up(cut)
        batch = self._batch(track, start, cut, None, messages)
        if batch is not None:
            batch = replace(batch, given_up=f"{self._source.lake} did not answer for too long")
        return Ready(track.key, "", start, cut.next, batch, None)

    def _claim(
        self, claims: Claims, track: Track, cut: Cut, messages: pa.Table, paths: list[str]
    ) -> Claim | None:
        """Claim a cut; if another job's claim exists, look up the claims ahead instead."""
        lost = track.lost if cut.reason == "skip" else None
        mine = replace(self._claim_of(track, cut.next, cut.rows), lost=lost)
        if cut.rows:
            mine = described(mine, messages).behind(track.buffer.mark_behind(cut.rows))
            mine = replace(mine, directories=paths)
        stands = self._calls.lake(
            lambda: claims.make(track.chain, track.start, mine), "claim a range in the lake"
        )
        if stands == mine:
            return mine
        self._assignment.learn(track)
        return None

    def _claim_of(self, track: Track, next: int, rows: int) -> Claim:
        layout = self._source.layout
        made = Claim(next, rows, track.durable, layout.path, layout.format, naming=layout.naming)
        return replace(made, archived_us=now_us(), sinks=self._source.sinks.id)

    def _peek(self, track: Track, rows: int) -> tuple[pa.Table, list[Any]]:
        """The first rows as ``FILE_SCHEMA``, with ids and checksums, and their receipts."""
        messages, receipts = track.buffer.peek(rows)
        if track.identified is not None and len(track.identified) >= rows:
            return track.identified.slice(0, rows), receipts
        return identified(track, messages, self._number(track)), receipts

    def _batch(
        self, track: Track, start: int, cut: Cut, claim: Claim | None, messages: pa.Table
    ) -> Batch | None:
        layout = claim.layout if claim else self._source.layout
        return made(
            track,
            start,
            cut,
            messages,
            layout,
            lost=claim.lost if claim else None,
            named=self._reader.positions,
            incarnation=self._number(track),
        )

    def _number(self, track: Track) -> int:
        # Without claims the number only distinguishes incarnations.
        return 1 if self._claims is None else track.incarnation

    def _look_for_lake(self) -> None:
        """Try to claim the range that was given up; the next attempt to claim it finds the result."""
        claims = self._claims
        if claims is None or not self._calls.without_lake:
            return
        tracks = self._assignment.busy.values()
        ask: Callable[[], object] = claims.reach
        for track in tracks:
            if track.given_up is not None:
                hole = self._claim_of(track, track.given_up, 0)
                ask = partial(claims.make, track.chain, track.start, hole)
        self._calls.look_for_lake(self._claimers, ask)

    def _acknowledge(self) -> None:
        self._acknowledger.give_back()
        try:
            self._acknowledger.flush(self._assignment.tracks)
        except TransientError:
            metrics.RETRIES.labels("broker").inc()
