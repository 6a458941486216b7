"""ReadBatches: an unbounded splittable DoFn over :class:`transforms.reading.shard.Shard`."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
from apache_beam.coders import Coder
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.utils.timestamp import Duration, Timestamp

from transforms import stop
from transforms.bundles.coders import carrying
from transforms.errors import PersistorError
from transforms.metrics.workers import Exposition
from transforms.model import Batch
from transforms.reading.shard import Ready, Shard
from transforms.reading.source import Source
from transforms.stored import dump, load

__all__ = ["Positions", "PositionsTracker", "ReadBatches", "close_shards"]

_VERSION = 1
_SECONDS = 1.0
# Runners process the shards of one thread in turn, so an idle one must not delay the others.
_BRIEFLY = 0.1
_IDLE_PAUSE = Duration(seconds=1)
_UNUSED_AFTER = 60.0


@dataclass(frozen=True)
class Positions:
    """The restriction of one shard: how far its reader came. The positions are in the lake's claims.

    Attributes:
        next: positions by track (``<source>~<incarnation>/<partition>``), as older releases saved them.
        done: nothing more is read from here.
        at: names the last range that was handed on, and who read it.
    """

    next: Mapping[str, int] = field(default_factory=dict)
    done: bool = False
    at: str = ""


@dataclass
class ReadBatches(beam.PTransform):
    """Read a source continuously as claimed batches.

    Delivery: a batch's messages are acknowledged at the broker after the bundle that carried it
    has succeeded. A bundle that fails is read again from the last checkpoint.

    Attributes:
        shards: the numbers of the shards that this job reads.
        of: total number of shards.
        exposition: metrics that the workers serve, None if the process serves them itself.
    """

    source: Source
    shards: tuple[int, ...] = (0,)
    of: int = 1
    exposition: Exposition | None = None

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[Batch]:
        """One element per shard; each is read continuously."""
        numbers = root | "Shards" >> beam.Create(self.shards, reshuffle=len(self.shards) > 1)
        read = _Read(self.source, self.of, self.exposition, alone=len(self.shards) == 1)
        return numbers | "Read" >> carrying(beam.ParDo(read), Batch)


class PositionsTracker(RestrictionTracker):
    """Claims ranges by their names; only a checkpoint (fraction 0) splits it."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions

    def current_restriction(self) -> Positions:
        """What is still to be read."""
        return self._positions

    def current_progress(self) -> RestrictionProgress:
        """All remaining or all done; only the broker knows the amount."""
        done = float(self._positions.done)
        return RestrictionProgress(completed=done, remaining=1 - done)

    def try_claim(self, position: str | None) -> bool:
        """Claim a range, or with None the end; False once the rest was handed over."""
        if self._positions.done:
            return False
        if position is None:
            self._positions = replace(self._positions, done=True)
        else:
            self._positions = Positions(at=position)
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[Positions, Positions] | None:
        """Hand everything over at a checkpoint; refuse any other split."""
        if fraction_of_remainder != 0 or self._positions.done:
            return None
        residual = self._positions
        self._positions = replace(residual, done=True)
        return self._positions, residual

    def check_done(self) -> None:
        """Raise if the restriction was left unfinished."""
        if not self._positions.done:
            raise ValueError("the shard was left before its positions were handed on")

    def is_bounded(self) -> bool:
        """False: a source of messages has no end."""
        return False


class _PositionsCoder(Coder):
    def encode(self, value: Positions) -> bytes:
        state = {"next": dict(value.next), "done": value.done, "at": value.at}
        return dump(state, version=_VERSION, key="v").encode()

    def decode(self, encoded: bytes) -> Positions:
        state = load(encoded, "The saved state of this job", newest=_VERSION, key="v")
        return Positions(state["next"], state["done"], state.get("at", ""))

    def is_deterministic(self) -> bool:
        return True


class _Provider(RestrictionProvider):
    def initial_restriction(self, element: int) -> Positions:  # noqa: ARG002 - the shard determines it itself
        return Positions()

    def create_tracker(self, restriction: Positions) -> PositionsTracker:
        return PositionsTracker(restriction)

    def restriction_coder(self) -> Coder:
        return _PositionsCoder()

    def restriction_size(self, element: int, restriction: Positions) -> float:  # noqa: ARG002
        """The shard's lag in messages, if this process reads it."""
        shards = list(_shards.items())  # other shards may be opened meanwhile
        return float(max((shard.lag() for key, shard in shards if key[1] == element), default=1))

    def truncate(self, element: int, restriction: Positions) -> None:
        """Nothing: a draining job stops reading."""


_TRACKER = beam.DoFn.RestrictionParam(_Provider())
_WATERMARK = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider())


class _Read(beam.DoFn):
    def __init__(self, source: Source, of: int, exposition: Exposition | None, *, alone: bool) -> None:
        self._source = source
        self._of = of
        self._exposition = exposition
        self._alone = alone

    def setup(self) -> None:
        if self._exposition is not None:
            self._exposition.begin()

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        number: int,
        # Beam resolves these by position: the finalizer must come before the restriction.
        finalizer: Any = beam.DoFn.BundleFinalizerParam,
        tracker: Any = _TRACKER,
        watermark: Any = _WATERMARK,
    ) -> Iterator[Batch]:
        shard = _obtain(self._source, number, self._of)
        with shard.lock:
            drain = stop.stopping()
            taken = []
            for ready in _turns(shard, tracker, drain=drain, alone=self._alone):
                if ready.acknowledgement is not None:
                    taken.append((ready.key, ready.acknowledgement))
                if ready.batch is not None:
                    yield ready.batch
            finalizer.register(lambda: shard.durable(taken))
            _advance(watermark)
            if drain:
                tracker.try_claim(None)
            else:
                tracker.defer_remainder(None if self._alone or shard.lag() else _IDLE_PAUSE)


def _turns(shard: Shard, tracker: Any, *, drain: bool, alone: bool) -> Iterator[Ready]:
    """About a second of reading, as far as the restriction allows.

    The batches of one turn are written while the next one reads.
    """
    end = time.monotonic() + _SECONDS
    while (left := end - time.monotonic()) > 0:
        ready = _turn(shard, tracker, left if alone else min(left, _BRIEFLY), drain=drain)
        if drain or not (ready or (not alone and shard.reads_on)):
            end = 0.0
        while ready:
            if not tracker.try_claim(ready[0].at):
                shard.refuse(ready, tracker.current_restriction().at)
                return
            yield ready.popleft()  # or it would be in memory until the next turn


def _turn(shard: Shard, tracker: Any, seconds: float, *, drain: bool) -> deque[Ready]:
    state = tracker.current_restriction()
    try:
        return deque(shard.turn(seconds, state.at, state.next, drain=drain))
    except PersistorError as error:
        stop.note_failure(error)
        raise


def _advance(watermark: Any) -> None:
    """No window depends on it; it shows operators that the source is alive. It only moves forward."""
    now, current = Timestamp.of(time.time() - _SECONDS), watermark.current_watermark()
    if current is None or now > current:
        watermark.set_watermark(now)


_shards: dict[tuple[str, int, int], Shard] = {}
_shards_lock = threading.Lock()


def _obtain(source: Source, number: int, of: int) -> Shard:
    """This process's reader of a shard, kept across bundles so that nothing is fetched twice."""
    key = (repr(source), number, of)
    with _shards_lock:
        now = time.monotonic()
        for other, shard in list(_shards.items()):
            if other != key and now - shard.used > _UNUSED_AFTER and shard.lock.acquire(blocking=False):
                del _shards[other]
                # A broker that is away delays the end of this one, and no other shard of the process.
                threading.Thread(target=shard.close, name="close", daemon=True).start()
        if key not in _shards:
            _shards[key] = Shard(source, number, of, stop.stopping)
        return _shards[key]


def close_shards() -> Mapping[str, int]:
    """Acknowledge what is durable and close every reader of this process, after its last bundle.

    Returns:
        Messages that wait at the broker, by source, as far as known.
    """
    left = Counter[str]()
    with _shards_lock:
        while _shards:
            _, shard = _shards.popitem()
            left.update(shard.lags())
            shard.close()
    return +left
