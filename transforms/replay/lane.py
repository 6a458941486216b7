"""Publishes one lane of a job: reads ahead, sends in order, commits, and continues after a failure."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import numpy as np
import pyarrow as pa

from transforms.brokers import UNNAMED, Publisher, is_noted
from transforms.errors import PermanentError, TransientError
from transforms.lake import Lake
from transforms.replay.control import Wish
from transforms.replay.ledger import Ledger
from transforms.replay.pacing import Alone, Pacer, Turn
from transforms.replay.plans import COMMIT_MESSAGES, Plan, lane_topic, read_windows
from transforms.replay.read_ahead import ReadAhead
from transforms.replay.report import Report, Tally
from transforms.replay.sender import COMMIT_SECONDS, TIMED_COMMIT_SECONDS, Sender, publish_options
from transforms.replay.window_reader import Checked, read_window
from transforms.retry import retry

__all__ = ["Lane", "TakenOverError", "replay_lane"]

_REFUSED = "the destination refused it before the process ended"
_REFUSED_NOTE = (
    "Just before the process ended, the destination refused more messages than it can record. They count "
    "as published, but the topic holds fewer."
)


class TakenOverError(PermanentError):
    """Another worker has confirmed rows of this lane, which it works since; this one must end quietly."""


def replay_lane(
    plan: Plan,
    lane: int,
    lakes: Sequence[Lake],
    publisher: Publisher,
    *,
    stopped: Callable[[], bool] = lambda: False,
    pacer: Pacer | None = None,
) -> Report:
    """Publish one lane of a stored plan in order, continuing where an earlier run ended.

    Transient errors of lake and broker are retried. Delivery: see ``Plan.deduplication``.

    Args:
        plan: the job's stored plan.
        lane: one of ``plan.lanes``.
        lakes: every lake that the plan may refer to; the first holds the plan.
        publisher: opened with ``lane_url`` under the lane's own name, ``<job>-<lane>``; not yet begun.
        stopped: polled all the time; once true, the lane ends early and can be resumed.
        pacer: limits the rate, and reports a wish to pause or cancel. The lane then also ends early, with
            all sent messages confirmed, and its report says so.

    Raises:
        TransientError: only once ``stopped`` is true.
        PermanentError: the plan's own objects are missing.
    """
    work = Lane(plan, lane, lakes, publisher, stopped=stopped, pacer=pacer or Pacer(Wish))
    work.take_turn(Alone())
    return work.report


class Lane:
    """A lane under way: sends in turns, until it has ended.

    Attributes:
        number: of the lane in its plan.
        report: the outcome, complete once it has ended.
        ended: whether it needs no further turn: all is sent, or it ended early.
        time_us: publish time of the first message that is not confirmed, in µs; None if it is not known yet.
    """

    def __init__(
        self,
        plan: Plan,
        lane: int,
        lakes: Sequence[Lake],
        publisher: Publisher,
        *,
        stopped: Callable[[], bool],
        pacer: Pacer,
    ) -> None:
        """See :func:`replay_lane`."""
        self._plan, self.number, self._lakes = plan, lane, lakes
        self._publisher, self._stopped, self._pacer = publisher, stopped, pacer
        self._ledger = Ledger(lakes[0], plan, lane)
        seconds = COMMIT_SECONDS if plan.options.times_original is None else TIMED_COMMIT_SECONDS
        self._sender = Sender(publisher, publish_options(plan, lane_topic(plan, lane)), seconds)
        self.confirmed, self.earlier = Tally(), Tally()
        self._failed: list[pa.Table] = []
        self._ahead: ReadAhead | None = None
        self._held: Checked | None = None
        self._started, self._since = False, time.monotonic()
        self._gap = self._written = self._doubted = 0
        self.ended = False
        self.time_us: int | None = None
        self._next_us: int | None = None
        self.report = Report(job=plan.job, destination=lane_topic(plan, lane), planned=plan.lanes[lane])

    def halted(self) -> bool:
        """Whether the lane must end early; once true, it stays true."""
        if self.report.halted is None and (state := self._pacer.wish().state) != "run":
            self.report.halted = state
        return self.report.halted is not None or self._stopped()

    def take_turn(self, turn: Turn) -> None:
        """Send until the lane or its turn ends; transient errors are retried.

        Raises:
            TransientError: only once ``stopped`` is true.
            PermanentError: the plan's own objects are missing.
        """
        try:
            retry(
                lambda: self._run(turn),
                f"resubmit lane {self.number} of job {self._plan.job}",
                stopped=self.halted,
            )
        except TakenOverError:
            self.report.notes.append(f"Lane {self.number} was taken over by another worker.")
            self.ended = True
        except TransientError:
            if self.report.halted is None:
                raise
            self.ended = True
        if self.ended:
            self.close()
            self.report.settle(self.confirmed, self.earlier, time.monotonic() - self._since)

    def _run(self, turn: Turn) -> None:
        if self.halted() and not self._started:
            self.confirmed, _ = self._ledger.read()
            self.earlier = copy.deepcopy(self.confirmed)
            self._leave()
            self.ended = True
            return
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            self._begin()
            ahead = ReadAhead(self._read)
        try:
            self._send_turn(ahead, turn)
            self._ahead = ahead
        finally:
            if self._ahead is None:  # what failed begins again
                self._held = None
                ahead.close()

    def close(self) -> None:
        """Stop reading ahead."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _begin(self) -> None:
        """Take the lane up, or take it up again unless another worker has.

        A broker shuts out who was silent for too long just as it does for a rival: only what is
        confirmed without our doing proves that there is one.
        """
        kept = self._publisher.begin()
        if self._started:
            self._compare(kept or 0)
        unconfirmed, again = self._sender.unconfirmed, self._started
        self._sender.forget()
        if not self._started:
            self.confirmed, again = self._ledger.start()
            self._written = self.confirmed.done
            self.earlier = copy.deepcopy(self.confirmed)
            self._started, unconfirmed = True, COMMIT_MESSAGES
        self._gap = max(0, (kept or 0) - self.confirmed.done)
        if again and self._is_uncertain(kept):
            self._doubt(unconfirmed)

    def _compare(self, kept: int) -> None:
        # A rival that was done has removed what it kept at the destination, after it wrote the ledger.
        done = self.confirmed.done + self._gap
        foreign = kept > done and kept != done + self._sender.rows
        if foreign or self._ledger.read()[0].done != self._written:
            raise TakenOverError

    def _doubt(self, unconfirmed: int) -> None:
        """Count messages that may have arrived, each once, however often the destination is lost."""
        done = self.confirmed.done
        end = min(done + unconfirmed, self._plan.lanes[self.number])
        self.confirmed.may_repeat += max(0, end - max(done, self._doubted))
        self._doubted = max(end, self._doubted)

    def _is_uncertain(self, kept: int | None) -> bool:
        """Whether the last messages may have arrived without a confirmation."""
        if kept is None:
            return not self._plan.exactly_once or self.confirmed.done > 0
        return kept < self.confirmed.done

    def _read(self, files: ThreadPoolExecutor, closing: Callable[[], bool]) -> Iterator[Checked]:
        what = f"read the files of job {self._plan.job}"
        for window in self._windows():
            yield retry(
                lambda window=window: read_window(window, self._plan, self._lakes, files),  # type: ignore[misc]
                what,
                stopped=lambda: closing() or self.halted(),
            )

    def _windows(self) -> Iterator[pa.RecordBatch]:
        """The unconfirmed windows, cut where the rows end that the destination already has."""
        gap = self._gap
        for window in read_windows(self._lakes[0], self._plan, self.number, self.confirmed.done):
            if 0 < gap < len(window):
                yield window.slice(0, gap)
                yield window.slice(gap)
            else:
                yield window
            gap -= len(window)

    def _send_turn(self, ahead: ReadAhead, turn: Turn) -> None:
        sent = 0
        while not self.halted() and (checked := self._next(ahead)) is not None:
            count = len(checked.messages) if self._gap > 0 else self._allowed(checked, turn)
            if (len(checked.messages) and not count) or turn.is_over(sent):
                self._commit()
                return
            ahead.begin()
            part, self._held = checked.split(count)
            sent += len(part.window)
            if self._gap > 0:
                self._count_gap(part)
            else:
                self._send(part)
        self._commit()
        self._keep(self._ledger.leave)
        self._leave()
        self.ended = True

    def _next(self, ahead: ReadAhead) -> Checked | None:
        """What comes next: the rest of a window, or the next one."""
        if self._held is None:
            self._held = self._wait(ahead.begin())
            ahead.take()
        return self._held

    def _allowed(self, checked: Checked, turn: Turn) -> int:
        """How many messages of a window the turn allows."""
        if not len(checked.messages):
            return 0
        times = checked.times()
        self._next_us = int(times[0])
        if not self._sender.rows:
            self.time_us = self._next_us
        limit = turn.limit(self._next_us)
        late = np.flatnonzero(times > limit) if limit is not None else times[:0]
        return int(late[0]) if len(late) else len(times)

    def _leave(self) -> None:
        """Delete the lane's progress at the destination if nobody will need it."""
        if self.report.halted == "cancel" or self.confirmed.done == self._plan.lanes[self.number]:
            self._publisher.finish()

    def _wait(self, future: Future[Checked | None]) -> Checked | None:
        # A slow lake must not keep a transaction open, because that stalls every read-committed consumer.
        while True:
            try:
                return future.result(timeout=COMMIT_SECONDS / 4)
            except NotYet:
                if self._sender.due():
                    self._commit()

    def _count_gap(self, checked: Checked) -> None:
        """Count messages of a commit at the destination that is missing in the ledger."""
        self._gap -= len(checked.window)
        if left_out := self._publisher.left_out:
            ids = checked.messages["id"].to_pylist()
            checked.lose({id: _REFUSED for id in ids if is_noted(id, left_out)})
            if UNNAMED in left_out and _REFUSED_NOTE not in self.report.notes:
                self.report.notes.append(_REFUSED_NOTE)
        self.earlier.add(checked.tally())
        self._count([checked])

    def _send(self, checked: Checked) -> None:
        """Send a window at the rate limit and speed, in parts if that is slow."""
        sizes, times = checked.sizes(), checked.times()
        rest: Checked | None = checked
        while rest is not None and not self.halted():
            room = self._sender.room
            count = self._pacer.allow(sizes[:room], times[:room]) if len(sizes) else 0
            if count or not len(sizes):
                part, rest = rest.split(count)
                sizes, times = sizes[count:], times[count:]
                self._sender.send(part)
            if self._sender.due():
                self._commit()

    def _commit(self) -> None:
        self._count(self._sender.commit(self.confirmed.done))
        self.time_us = self._next_us
        pa.default_memory_pool().release_unused()  # or the objects of past windows add up in memory
        failed = pa.concat_tables(self._failed) if self._failed else None
        self._keep(lambda: self._ledger.write(self.confirmed, failed, self._written, self.time_us))
        self._failed, self._written = [], self.confirmed.done

    def _count(self, settled: list[Checked]) -> None:
        for checked in settled:
            self.confirmed.add(checked.tally())
            if (failed := checked.failed()) is not None:
                self._failed.append(failed)

    def _keep(self, write: Callable[[], None]) -> None:
        retry(write, f"keep the progress of job {self._plan.job}", stopped=self._stopped)
