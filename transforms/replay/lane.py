"""Publishes one lane of a job: reads ahead, sends in order, commits, and continues after a failure."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import pyarrow as pa

from transforms.brokers import UNNAMED, Publisher, PublishOptions, is_noted
from transforms.errors import PermanentError, TransientError
from transforms.lake import Lake
from transforms.replay.control import Wish
from transforms.replay.ledger import Ledger
from transforms.replay.pacing import Pacer
from transforms.replay.plans import COMMIT_MESSAGES, Plan, lane_topic, read_windows
from transforms.replay.report import Report, Tally
from transforms.replay.window_reader import Checked, read_window
from transforms.retry import retry

__all__ = ["Sender", "TakenOverError", "publish_options", "replay_lane"]

_SEND_MESSAGES = 1_000
"""Messages handed to a publisher at a time; it makes Python objects of them, so few keep memory low."""
_COMMIT_BYTES = 16 << 20
_COMMIT_SECONDS = 2.0
_FILES_AT_A_TIME = 4
_REFUSED = "the destination refused it before the process ended"
_REFUSED_NOTE = (
    "Just before the process ended, the destination refused more messages than it can record. They count "
    "as published, but the topic holds fewer."
)


class TakenOverError(PermanentError):
    """Another worker has confirmed rows of this lane, which it works since; this one must end quietly."""


class Sender:
    """Sends checked windows and keeps track of what is not confirmed yet."""

    def __init__(self, publisher: Publisher, options: PublishOptions) -> None:
        """Send through an open publisher."""
        self._publisher = publisher
        self._options = options
        self._pending: list[Checked] = []
        self._rows = self._bytes = 0
        self._since = 0.0
        self.unconfirmed = 0

    @property
    def rows(self) -> int:
        """Rows of the lane that the next commit stands for."""
        return self._rows

    @property
    def room(self) -> int:
        """Messages that still fit into the present commit, at least one."""
        return max(1, COMMIT_MESSAGES - self.unconfirmed)

    def send(self, checked: Checked) -> None:
        """Hand a window to the publisher. Raises ``TransientError`` like it."""
        if not self._pending:
            self._since = time.monotonic()
        self._pending.append(checked)
        self._rows += len(checked.window)
        self._bytes += checked.messages.nbytes
        self.unconfirmed += len(checked.messages)
        for start in range(0, len(checked.messages), _SEND_MESSAGES):
            self._publisher.send(checked.messages.slice(start, _SEND_MESSAGES), self._options)

    def due(self) -> bool:
        """Whether a commit is due, by the amount or age of unconfirmed messages."""
        return bool(self._pending) and (
            self._rows >= COMMIT_MESSAGES
            or self._bytes >= _COMMIT_BYTES
            or time.monotonic() - self._since >= _COMMIT_SECONDS
        )

    def commit(self, done: int) -> list[Checked]:
        """Wait until all sent messages are confirmed.

        Args:
            done: rows of the lane handled before the unconfirmed ones.

        Returns:
            The windows sent since the last commit, without refused messages.

        Raises:
            TransientError: begin again.
        """
        if not self._pending:
            return []
        undelivered = self._publisher.commit(done + self._rows)
        settled = self._pending
        if undelivered:
            reasons = {message.id: message.reason for message in undelivered}
            for checked in settled:
                checked.lose(reasons)
        self.forget()
        return settled

    def forget(self) -> None:
        """Drop unconfirmed windows, because they are sent again."""
        self._pending, self._rows, self._bytes, self.unconfirmed = [], 0, 0, 0


def publish_options(plan: Plan, topic: str) -> PublishOptions:
    """How a plan's messages are published to one of its topics."""
    by_key = topic in plan.keyed or plan.options.partitions == "key"
    return PublishOptions(
        original_time=plan.options.timestamp == "original", partitions="key" if by_key else "original"
    )


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
    work = _Lane(plan, lane, lakes, publisher, stopped=stopped, pacer=pacer or Pacer(Wish))
    started = time.monotonic()
    try:
        retry(work.run, f"resubmit lane {lane} of job {plan.job}", stopped=work.halted)
    except TakenOverError:
        work.report.notes.append(f"Lane {lane} was taken over by another worker.")
    except TransientError:
        if work.report.halted is None:
            raise
    work.report.settle(work.confirmed, work.earlier, time.monotonic() - started)
    return work.report


class _Lane:
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
        self._plan, self._lane, self._lakes = plan, lane, lakes
        self._publisher, self._stopped, self._pacer = publisher, stopped, pacer
        self._ledger = Ledger(lakes[0], plan, lane)
        self._sender = Sender(publisher, publish_options(plan, lane_topic(plan, lane)))
        self.confirmed, self.earlier = Tally(), Tally()
        self._failed: list[pa.Table] = []
        self._started = self._closing = False
        self._gap = self._written = self._doubted = 0
        self.report = Report(job=plan.job, destination=lane_topic(plan, lane), planned=plan.lanes[lane])

    def halted(self) -> bool:
        """Whether the lane must end early; once true, it stays true."""
        if self.report.halted is None and (state := self._pacer.wish().state) != "run":
            self.report.halted = state
        return self.report.halted is not None or self._stopped()

    def run(self) -> None:
        """Begin (again) after the confirmed rows and send the rest of the lane."""
        if self.halted() and not self._started:
            self.confirmed, _ = self._ledger.read()
            self.earlier = copy.deepcopy(self.confirmed)
            self._leave()
            return
        self._begin()
        self._closing = False
        with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(_FILES_AT_A_TIME) as files:
            windows = self._read(files)
            try:
                self._send_all(lambda: ahead.submit(next, windows, None))
            finally:
                self._closing = True

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
        end = min(done + unconfirmed, self._plan.lanes[self._lane])
        self.confirmed.may_repeat += max(0, end - max(done, self._doubted))
        self._doubted = max(end, self._doubted)

    def _is_uncertain(self, kept: int | None) -> bool:
        """Whether the last messages may have arrived without a confirmation."""
        if kept is None:
            return not self._plan.exactly_once or self.confirmed.done > 0
        return kept < self.confirmed.done

    def _read(self, files: ThreadPoolExecutor) -> Iterator[Checked]:
        what = f"read the files of job {self._plan.job}"
        for window in self._windows():
            yield retry(
                lambda window=window: read_window(window, self._plan, self._lakes, files),  # type: ignore[misc]
                what,
                stopped=lambda: self._closing or self.halted(),
            )

    def _windows(self) -> Iterator[pa.RecordBatch]:
        """The unconfirmed windows, cut where the rows end that the destination already has."""
        gap = self._gap
        for window in read_windows(self._lakes[0], self._plan, self._lane, self.confirmed.done):
            if 0 < gap < len(window):
                yield window.slice(0, gap)
                yield window.slice(gap)
            else:
                yield window
            gap -= len(window)

    def _send_all(self, read_next: Callable[[], Future[Checked | None]]) -> None:
        future = read_next()
        while (checked := self._wait(future)) is not None and not self.halted():
            future = read_next()
            if self._gap > 0:
                self._count_gap(checked)
            else:
                self._send(checked)
        self._commit()
        self._keep(self._ledger.leave)
        self._leave()

    def _leave(self) -> None:
        """Delete the lane's progress at the destination if nobody will need it."""
        if self.report.halted == "cancel" or self.confirmed.done == self._plan.lanes[self._lane]:
            self._publisher.finish()

    def _wait(self, future: Future[Checked | None]) -> Checked | None:
        # A slow lake must not keep a transaction open, because that stalls every read-committed consumer.
        while True:
            try:
                return future.result(timeout=_COMMIT_SECONDS / 4)
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
        """Send a window at the rate limit, in parts if that is slow."""
        sizes = checked.sizes()
        rest: Checked | None = checked
        while rest is not None and not self.halted():
            count = self._pacer.allow(sizes[: self._sender.room]) if len(sizes) else 0
            if count or not len(sizes):
                part, rest = rest.split(count)
                sizes = sizes[count:]
                self._sender.send(part)
            if self._sender.due():
                self._commit()

    def _commit(self) -> None:
        self._count(self._sender.commit(self.confirmed.done))
        pa.default_memory_pool().release_unused()  # or the objects of past windows add up in memory
        failed = pa.concat_tables(self._failed) if self._failed else None
        self._keep(lambda: self._ledger.write(self.confirmed, failed, self._written))
        self._failed, self._written = [], self.confirmed.done

    def _count(self, settled: list[Checked]) -> None:
        for checked in settled:
            self.confirmed.add(checked.tally())
            if (failed := checked.failed()) is not None:
                self._failed.append(failed)

    def _keep(self, write: Callable[[], None]) -> None:
        retry(write, f"keep the progress of job {self._plan.job}", stopped=self._stopped)
