"""The lanes of a job's other workers: how far they are, and the part of the rate that is this worker's."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from types import TracebackType

from transforms.errors import TransientError
from transforms.lake import Lake
from transforms.replay.ledger import Progress, progress
from transforms.replay.plans import Plan

__all__ = ["Others"]

_LOOK_EVERY = 1.0
_STANDS_STILL = 30.0
"""Seconds without progress after which nobody waits for a lane: its worker may be gone or not begun."""


class Others:
    """Looks at the ledgers of the other lanes once a second, while used as a context. Thread-safe.

    Where all lanes of the plan are this worker's, it looks at nothing.
    """

    def __init__(self, lake: Lake, plan: Plan, mine: Collection[int], workers: int | None = None) -> None:
        """Watch the lanes of ``plan`` but those of this worker; see :func:`replay_lanes` for ``workers``."""
        self._lake, self._plan, self._mine, self._workers = lake, plan, set(mine), workers
        self._found: dict[int, Progress] = {}
        self._moved: dict[int, tuple[Progress, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"others-{plan.job}", daemon=True)

    def __enter__(self) -> Others:
        """Begin to look."""
        if len(self._mine) < len(self._plan.lanes):
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop looking; waits for nothing."""
        self._ended.set()

    def lowest(self) -> int | None:
        """Publish time of the next message of the lane that is furthest behind, in µs; None if none runs."""
        now = time.monotonic()
        running = [
            one.next_us or 0
            for lane, (one, moved) in self._moved.copy().items()
            if not one.left and one.done < self._plan.lanes[lane] and now - moved < _STANDS_STILL
        ]
        return min(running, default=None)

    def share(self) -> float:
        """The part of the job's rate that is this worker's: by lanes that are not done, or by workers."""
        left = [lane for lane, planned in self._plan.lanes.items() if not self._is_done(lane, planned)]
        mine = sum(lane in self._mine for lane in left)
        by_lanes = mine / len(left) if mine else 1.0
        return by_lanes if self._workers is None else max(by_lanes, 1 / self._workers)

    def _is_done(self, lane: int, planned: int) -> bool:
        return lane in self._found and self._found[lane].done >= planned

    def _follow(self) -> None:
        while True:
            self._look()
            if self._ended.wait(_LOOK_EVERY):
                return

    def _look(self) -> None:
        try:
            found = progress(self._lake, self._plan.job)
        except TransientError:
            return  # the next look may succeed
        now = time.monotonic()
        moved = {lane: (one, now) for lane, one in found.items() if lane not in self._mine}
        for lane, (one, _) in moved.items():
            if lane in self._moved and self._moved[lane][0] == one:
                moved[lane] = self._moved[lane]
        self._found, self._moved = found, moved
