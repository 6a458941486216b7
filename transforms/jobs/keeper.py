"""The keeper: holds a job's lease, tells its lanes what is wished, and tells the row how far they are."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType

from transforms.errors import ConfigurationError, PermanentError, PersistorError
from transforms.indexes import Index
from transforms.job_row import Row
from transforms.jobs.actions import release
from transforms.jobs.leases import Note, change, held_by, new_owner, take
from transforms.jobs.rows import (
    by_command,
    failed,
    finished,
    outcome,
    planned,
    progressed,
    waits,
    wish_of,
)
from transforms.lake import Lake
from transforms.replay import Progress
from transforms.replay.control import LOOK_EVERY, Wish, write_control
from transforms.replay.ledger import total
from transforms.replay.plans import Plan
from transforms.replay.report import Report, Tally
from transforms.retry import retry, waiting

__all__ = ["Keeper", "LostError"]

_BEAT = 1.0
_LOOK_EVERY = 0.2
_RATE_OVER = 10
"""Beats over which the rate is measured."""
_GIVE_UP_AFTER = 600.0


class LostError(Exception):
    """Another process has taken the job over."""


class Keeper:
    """Holds a job while the block runs, renewing its lease each second from a thread of its own.

    Where the block fails for good (``ConfigurationError``, ``PermanentError``) the job ends FAILED
    with that reason; after any other failure its lease is given back, and it may be taken up again.
    While the index is away the lanes go on: nobody else can take the job then.
    """

    def __init__(
        self,
        index: Index,
        lake: Lake,
        id: str,
        *,
        on_lost: Callable[[], object],
        owner: str | None = None,
        progress: Progress = lambda _published, _failed, _planned: None,
    ) -> None:
        """Keep job ``id``.

        Args:
            index: where its row is.
            lake: where its plan and its ledger are.
            id: the job's id.
            on_lost: called once, from the keeper's thread, when another process has taken the job.
            owner: the name under which the lease is held already, see :func:`new_owner`.
            progress: told messages published, failed and planned, from a thread of the keeper.
        """
        self._index, self._lake, self._id = index, lake, id
        self._on_lost = on_lost
        self._owner = owner or new_owner()
        self._progress = progress
        self._plan: Plan | None = None
        self._wished: tuple[Wish, int] | None = None
        self._told: Wish | None = None
        self._paused = False
        self._tally: Tally | None = None
        self._rate: float | None = None
        self._counts: deque[tuple[float, int]] = deque(maxlen=_RATE_OVER)
        self._ended = threading.Event()
        # A lake that hangs must not keep the lease from being renewed: each has a thread of its own.
        self._threads = [threading.Thread(target=self._run, args=(beat,), name=f"keeper-{id}", daemon=True)
                         for beat in (self._renew, self._look)]  # fmt: skip
        self.lost = False

    def take(
        self,
        otherwise: Callable[[Row], Row] = lambda row: row,
        *,
        patience: float = 0.0,
        note: Note = lambda _before, _after: None,
    ) -> Row:
        """Take the lease; see :func:`transforms.jobs.leases.take`."""
        return take(self._index, self._id, self._owner, otherwise, patience=patience, note=note)

    def __enter__(self) -> Keeper:
        """Begin to renew the lease."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lease back where :meth:`finish` has not, and say why the block failed."""
        self._stop()
        if self.lost or kind is None:
            return
        for_good = isinstance(error, (ConfigurationError, PermanentError))
        self._change(lambda row: _ended_by(row, str(error) or kind.__name__, for_good=for_good))

    def planned(self, plan: Plan) -> None:
        """Tell the row of the plan, and the plan's lanes what is wished of them.

        Raises:
            TransientError: the lake or the index stays away.
        """
        row = self._change(lambda row: planned(row, plan))
        if row is not None:
            self._wished = wish_of(row), row["version"]
            retry(self._tell, f"tell job {self._id}", give_up_after=_GIVE_UP_AFTER)
            self._plan = plan

    @property
    def halted(self) -> str | None:
        """``pause`` or ``cancel`` where the lanes were told so last."""
        return None if self._told is None or self._told.state == "run" else self._told.state

    def goes_on(self, stopped: Callable[[], bool], held: Callable[[], object] | None = None) -> bool:
        """Whether a job whose lanes have ended was paused, and they are wished to run again.

        Args:
            stopped: asked while waiting; where it says yes, there is no more waiting.
            held: where given, a paused job is held until it is resumed or cancelled; called before.
        """
        if held is not None and self.halted == "pause":
            held()
            while self.halted == "pause" and not self.lost and not stopped():
                self._ended.wait(_LOOK_EVERY)
        again = self._paused and self.halted is None and not self.lost and not stopped()
        if again:
            self._paused = False
            self._ended.wait(LOOK_EVERY)  # until then lanes may take the earlier wish for the last one
        return again

    def finish(self, report: Report, *, stopped: bool = False) -> Row | None:
        """Tell the row what became of all messages; see :func:`transforms.jobs.rows.finished`.

        Returns:
            The row as it is now, None where another process has taken the job.
        """
        self._stop()
        self._show(outcome(report))
        row = self._change(lambda row: finished(row, report, stopped=stopped))
        if row is not None:
            retry(partial(release, self._index, row), f"store job {self._id}", give_up_after=_GIVE_UP_AFTER)
        return row

    def give_back(self, function: Callable[[Row], Row] = lambda row: row) -> Row | None:
        """Give the lease back, with another change of the row."""
        self._stop()
        return self._change(lambda row: {**function(row), "lease": None})

    def _renew(self) -> None:
        tally, rate = self._tally, self._rate
        trouble = waiting(self._id) if rate is None else None

        def renewed(row: Row) -> Row:
            told = row if tally is None else progressed(row, tally, rate)
            return held_by(waits(told, trouble), self._owner)

        row = self._change(renewed, patience=0.0)
        if row is not None:
            self._wished = wish_of(row), row["version"]

    def _look(self) -> None:
        if self._plan is None:
            return
        self._tell()
        self._tally = total(self._lake, self._plan)
        self._counts.append((time.monotonic(), self._tally.done))
        (since, before), (now, count) = self._counts[0], self._counts[-1]
        self._show(self._tally)
        self._rate = (count - before) / (now - since) if now > since and count > before else None

    def _show(self, tally: Tally) -> None:
        if self._plan is not None:
            self._progress(tally.published, tally.done - tally.published, self._plan.messages)

    def _tell(self) -> None:
        if self._wished is not None and self._wished[0] != self._told:
            wish, version = self._wished
            write_control(self._lake, self._id, wish, version)
            self._told = wish
            self._paused = self._paused or wish.state == "pause"

    def _change(self, function: Callable[[Row], Row], patience: float = _GIVE_UP_AFTER) -> Row | None:
        def ours(row: Row) -> Row:
            if row["lease"] is None or row["lease"]["owner"] != self._owner:
                raise LostError
            return function(row)

        def changed() -> Row:
            return change(self._index, self._id, ours)

        try:
            return retry(changed, f"store job {self._id}", give_up_after=patience)
        except LostError:
            self._lose()
            return None

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            self._on_lost()

    def _run(self, beat: Callable[[], None]) -> None:
        while not self._ended.wait(_BEAT) and not self.lost:
            try:
                beat()
            except PersistorError:
                continue  # the lanes go on, and wait for index and lake by themselves

    def _stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()


def _ended_by(row: Row, reason: str, *, for_good: bool) -> Row:
    if for_good or by_command(row):
        return failed(row, reason)
    return {**row, "lease": None, "reason": f"It is to be taken up again: {reason}"}
