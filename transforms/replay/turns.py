"""Works the lanes of one worker at the same time, so that none is more than a slice ahead of another."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from transforms.brokers import Publisher
from transforms.lake import Lake
from transforms.replay.control import Control
from transforms.replay.lane import Lane
from transforms.replay.ledger import progress, total
from transforms.replay.others import Others
from transforms.replay.pacing import NO_TIME, Alone, Pacer, Schedule, Turn
from transforms.replay.plans import COMMIT_MESSAGES, Plan
from transforms.replay.report import Report
from transforms.retry import retry

__all__ = ["replay_lanes"]

_THREADS = 4
"""Lanes that send at the same time; each has a thread, and a publisher with threads of its own."""
_OPEN_LANES = 16
"""Lanes that are under way, and take turns on the threads: each holds a publisher and two windows."""
_LOOK = 0.5
_GIVE_UP_AFTER = 600.0
_LATEST_US = (1 << 63) - 1


def replay_lanes(
    plan: Plan,
    lanes: Sequence[int],
    lakes: Sequence[Lake],
    open_publisher: Callable[[int], Publisher],
    *,
    stopped: Callable[[], bool] = lambda: False,
    workers: int | None = None,
) -> list[Report]:
    """Publish lanes of a stored plan at the same time, each in order, continuing where an earlier run ended.

    At most 4 lanes send at a time and 16 are under way. Among these, and those of other workers as far as a
    look at the lake each second shows, none sends what is published more than the plan's slice after what
    another has not confirmed yet. Each lane's delivery is that of :func:`transforms.replay.lane.replay_lane`.

    Args:
        plan: the job's stored plan.
        lanes: those of ``plan.lanes`` that this worker publishes.
        lakes: every lake that the plan may refer to; the first holds the plan.
        open_publisher: opens the publisher of a lane under the lane's own name.
        stopped: polled all the time; once true, lanes end early and can be resumed.
        workers: how many workers share the rate; None shares it by lanes.

    Returns:
        The reports of the lanes that were begun.

    Raises:
        TransientError: only once ``stopped`` is true.
        PermanentError: the plan's own objects are missing.
    """
    with Others(lakes[0], plan, lanes, workers) as others:
        pacer = Pacer(Control(lakes[0], plan.job).wish, others.share, _schedule(plan, lakes[0]))
        return _Crew(plan, lanes, lakes, open_publisher, stopped, pacer, others).work()


def _schedule(plan: Plan, lake: Lake) -> Schedule | None:
    """Goes on where an earlier run ended."""
    times_original = plan.options.times_original
    if times_original is None:
        return None
    what = f"read the progress of job {plan.job}"
    sent = retry(lambda: total(lake, plan), what, give_up_after=_GIVE_UP_AFTER).last_publish_time_us
    return Schedule((plan.oldest_us or 0) if sent is None else sent, times_original)


@dataclass
class _Open:
    """A lane under way; without its ``lane`` it is being opened."""

    lane: Lane | None = None
    publisher: Publisher | None = None
    parked: bool = False

    @property
    def time_us(self) -> int:
        """The publish time that no other lane may be a slice ahead of."""
        known = None if self.lane is None else self.lane.time_us
        return NO_TIME if known is None else known


class _Crew:
    def __init__(  # noqa: PLR0917 - called once
        self,
        plan: Plan,
        lanes: Sequence[int],
        lakes: Sequence[Lake],
        open_publisher: Callable[[int], Publisher],
        stopped: Callable[[], bool],
        pacer: Pacer,
        others: Others,
    ) -> None:
        self._plan, self._lakes, self._open_publisher = plan, lakes, open_publisher
        self._stopped, self._pacer, self._others = stopped, pacer, others
        self._waiting = sorted(lanes, reverse=True)
        self._open: dict[int, _Open] = {}
        self._changed = threading.Condition()
        self._failed = False
        # With a schedule, each lane waits for its own messages.
        at_once = _THREADS if plan.options.times_original is None else _OPEN_LANES
        self._threads = min(at_once, len(lanes))
        self._reports: list[Report] = []

    def work(self) -> list[Report]:
        try:
            with ThreadPoolExecutor(self._threads, "lanes") as threads:
                futures = [threads.submit(self._work) for _ in range(self._threads)]
            for future in futures:
                future.result()
        finally:
            for one in self._open.values():
                self._close(one)
        return self._reports

    def limit(self) -> int | None:
        """The latest publish time that any lane may send now; None is any."""
        with self._changed:
            self._changed.notify_all()
            return self._limit()

    def is_crowded(self) -> bool:
        """Whether lanes wait for a thread."""
        return len(self._open) > self._threads

    def _limit(self) -> int | None:
        times = [one.time_us for one in self._open.values()]
        if (others := self._others.lowest()) is not None:
            times.append(others)
        return min(min(times) + self._plan.options.slice_us, _LATEST_US) if len(times) > 1 else None

    def _work(self) -> None:
        orderly = False
        try:
            while (number := self._take()) is not None:
                self._take_turn(number)
            orderly = True
        finally:
            with self._changed:
                self._failed = self._failed or not orderly
                self._changed.notify_all()

    def _take(self) -> int | None:
        """The next lane to work on; None at the end of all."""
        with self._changed:
            while not self._failed and (self._waiting or self._open):
                if self._halted():
                    self._drop_waiting()
                if (number := self._next()) is not None:
                    self._open.setdefault(number, _Open()).parked = False
                    return number
                self._changed.wait(_LOOK)
        return None

    def _next(self) -> int | None:
        if self._waiting and len(self._open) < _OPEN_LANES:
            return self._waiting.pop()
        parked = [number for number, one in self._open.items() if one.parked]
        if not parked:
            return None
        lowest = min(parked, key=lambda number: self._open[number].time_us)
        limit = None if self._halted() else self._limit()
        return lowest if limit is None or self._open[lowest].time_us <= limit else None

    def _drop_waiting(self) -> None:
        """Leave out lanes that were not begun; but cancelled ones may have progress at the destination."""
        if self._waiting:
            begun = progress(self._lakes[0], self._plan.job) if self._pacer.wish().state == "cancel" else {}
            self._waiting = [number for number in self._waiting if number in begun]

    def _halted(self) -> bool:
        return self._failed or self._stopped() or self._pacer.wish().state != "run"

    def _take_turn(self, number: int) -> None:
        one = self._open[number]
        if one.lane is None:
            one.publisher = self._open_publisher(number)
            one.lane = Lane(
                self._plan, number, self._lakes, one.publisher,
                stopped=lambda: self._failed or self._stopped(), pacer=self._pacer,
            )  # fmt: skip
        one.lane.take_turn(Alone() if len(self._plan.lanes) == 1 else _Turn(self))
        if one.lane.ended:
            self._close(one)
        with self._changed:
            one.parked = True
            if one.lane.ended:
                del self._open[number]
                self._reports.append(one.lane.report)
            self._changed.notify_all()

    def _close(self, one: _Open) -> None:
        if one.lane is not None:
            one.lane.close()
        if one.publisher is not None:
            one.publisher.close()
            # A client refers to itself through its callbacks: only this releases its threads and buffers.
            one.publisher = None
            gc.collect()
            pa.default_memory_pool().release_unused()


class _Turn(Turn):
    """A lane's turn beside others of its worker."""

    def __init__(self, crew: _Crew) -> None:
        self._crew = crew

    def limit(self, time_us: int) -> int | None:  # noqa: ARG002 - the lane knows it too
        return self._crew.limit()

    def is_over(self, messages: int) -> bool:
        return messages >= COMMIT_MESSAGES and self._crew.is_crowded()
