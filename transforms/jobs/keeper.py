"""The keeper: holds a job's lease, passes the wish to its lanes, and writes their progress to the row."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import TracebackType

from transforms.errors import ConfigurationError, PermanentError, PersistorError
from transforms.indexes import Index
from transforms.job_row import Row
from transforms.jobs.actions import release
from transforms.jobs.leases import Note, change, held_by, new_owner, take
from transforms.jobs.rows import (
    at,
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
from transforms.replay.ledger import Totals
from transforms.replay.plans import Plan
from transforms.replay.report import Report, Tally
from transforms.retry import retry, waiting

__all__ = ["Keeper", "LostError", "StoppedError"]

_log = logging.getLogger(__name__)
_BEAT = 1.0
_LOOK_EVERY = 0.2
_RATE_OVER = 10
"""Number of beats over which the rate is measured."""
_GIVE_UP_AFTER = 600.0
_GONE_AFTER = 3600.0
"""Seconds without an answer from the index after which a job ends, to be continued by another process."""


class LostError(Exception):
    """Another process has taken the job over."""


class StoppedError(PersistorError):
    """The job was cancelled, or its process was asked to stop, before there was a plan."""


class Keeper:
    """Holds a job while the block runs; its own thread renews the lease each second.

    If the block fails permanently (``ConfigurationError``, ``PermanentError``), the job ends FAILED with
    that reason. After any other failure its lease is released, and another process may take it over. While
    the index does not answer, the lanes continue, because nobody else can take the job; after an hour of
    that they end as if another process had taken it.
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
            index: stores its row.
            lake: stores its plan and its ledger.
            id: the job's id.
            on_lost: called once, from the keeper's thread, when another process takes the job.
            owner: name of the present holder of the lease, see :func:`new_owner`.
            progress: called with messages published, failed and planned, from a keeper thread.
        """
        self._index, self._lake, self._id = index, lake, id
        self._on_lost = on_lost
        self._owner = owner or new_owner()
        self._progress = progress
        self._plan: Plan | None = None
        self._totals: Totals | None = None
        self._wished: tuple[Wish, int] | None = None
        self._written: Wish | None = None
        self._paused = self._halts = False
        self._tally: Tally | None = None
        self._rate: float | None = None
        self._counts: deque[tuple[float, int]] = deque(maxlen=_RATE_OVER)
        self._ended = threading.Event()
        # An unresponsive lake must not block the renewal of the lease, so each has its own thread.
        self._threads = [threading.Thread(target=self._run, args=(beat,), name=f"keeper-{id}", daemon=True)
                         for beat in (self._renew, self._look)]  # fmt: skip
        self._answered = time.monotonic()
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
        """Release the lease unless :meth:`finish` did, and store why the block failed."""
        self._stop()
        if self.lost or kind is None:
            return
        for_good = isinstance(error, (ConfigurationError, PermanentError))
        self._change(lambda row: _ended_by(row, str(error) or kind.__name__, for_good=for_good))

    def check(self, *, stopping: bool = False) -> None:
        """Raise ``StoppedError`` if nothing needs the plan that is being made.

        Args:
            stopping: whether this process was asked to stop.
        """
        cancelled = self._wished is not None and self._wished[0].state == "cancel"
        if cancelled or stopping or self.lost:
            raise StoppedError("It was cancelled." if cancelled else "Its process was stopped.")

    def planned(self, plan: Plan) -> None:
        """Store the plan in the row, and write the wish for its lanes.

        Raises:
            TransientError: the lake or the index did not answer for too long.
        """
        row = self._change(lambda row: planned(row, plan))
        if row is not None:
            self._wished = wish_of(row), row["version"]
            retry(
                self._write_wish, f"write the control object of job {self._id}", give_up_after=_GIVE_UP_AFTER
            )
            self._totals, self._plan = Totals(self._lake, plan), plan

    def halt(self) -> None:
        """Let the lanes end early, confirming what they have sent, whatever is asked of the job."""
        self._halts = True

    @property
    def halted(self) -> str | None:
        """``pause`` or ``cancel`` if that was the last wish for the lanes."""
        return None if self._written is None or self._written.state == "run" else self._written.state

    def goes_on(self, stopped: Callable[[], bool], held: Callable[[], object] | None = None) -> bool:
        """Whether a paused job, whose lanes have ended, was resumed.

        Args:
            stopped: polled while waiting; True ends the wait.
            held: if given, called before waiting for a paused job to be resumed or cancelled.
        """
        if held is not None and self.halted == "pause":
            held()
            while self.halted == "pause" and not self.lost and not stopped():
                self._ended.wait(_LOOK_EVERY)
        again = self._paused and self.halted is None and not self.lost and not stopped()
        if again:
            self._paused = False
            self._ended.wait(LOOK_EVERY)  # until then lanes may follow the earlier wish
        return again

    def finish(self, report: Report, *, stopped: bool = False) -> Row | None:
        """Store the outcome of all messages in the row; see :func:`transforms.jobs.rows.finished`.

        Returns:
            The stored row, or None if another process has taken the job.
        """
        self._stop()
        self._show(outcome(report))
        row = self._change(lambda row: finished(row, report, stopped=stopped))
        if row is not None:
            retry(partial(release, self._index, row), f"store job {self._id}", give_up_after=_GIVE_UP_AFTER)
        return row

    def give_back(self, function: Callable[[Row], Row] = lambda row: row) -> Row | None:
        """Release the lease, with another change of the row."""
        self._stop()
        return self._change(lambda row: {**function(row), "lease": None})

    def _renew(self) -> None:
        tally, rate = self._tally, self._rate
        trouble = waiting(self._id) if rate is None else None

        def renewed(row: Row) -> Row:
            updated = row if tally is None else progressed(row, tally, rate)
            return held_by(waits(updated, trouble), self._owner)

        row = self._change(renewed, patience=0.0)
        self._answered = time.monotonic()
        if row is not None:
            self._wished = wish_of(row), row["version"]

    def _look(self) -> None:
        if self._totals is None:
            return
        self._write_wish()
        self._tally = self._totals.read()
        self._counts.append((time.monotonic(), self._tally.done))
        (since, before), (now, count) = self._counts[0], self._counts[-1]
        self._show(self._tally)
        self._rate = (count - before) / (now - since) if now > since and count > before else None

    def _show(self, tally: Tally) -> None:
        if self._plan is not None:
            self._progress(tally.published, tally.done - tally.published, self._plan.messages)

    def _write_wish(self) -> None:
        if self._wished is not None:
            wish, version = self._wished
            wish = replace(wish, state="pause") if self._halts else wish
            if wish == self._written:
                return
            write_control(self._lake, self._id, wish, version)
            self._written = wish
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
                # The lanes continue, and wait for index and lake themselves.
                if time.monotonic() - self._answered > _GONE_AFTER:
                    _log.error("The index has not answered for an hour: job %s ends", self._id)
                    self._lose()

    def _stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()


def _ended_by(row: Row, reason: str, *, for_good: bool) -> Row:
    if row["state"] == "CANCELLING" and row["plan"] is None and not for_good:
        why = "It was cancelled before anything was sent."
        return {**row, "state": "CANCELLED", "reason": why, "finished": at(), "lease": None}
    if for_good or by_command(row):
        return failed(row, reason)
    return {**row, "lease": None, "reason": f"It will be taken over again: {reason}"}
