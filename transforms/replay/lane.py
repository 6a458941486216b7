"""One lane of a job: reading ahead, sending in order, committing, and going on after a failure."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import pyarrow as pa

from transforms.brokers import UNTOLD, Publisher, PublishOptions, is_noted
from transforms.errors import PermanentError, TransientError
from transforms.lake import Lake
from transforms.replay.control import Wish
from transforms.replay.ledger import Ledger
from transforms.replay.pacing import Pacer
from transforms.replay.plans import Plan, lane_topic, read_windows
from transforms.replay.report import Report, Tally
from transforms.replay.window_reader import Checked, read_window
from transforms.retry import retry

__all__ = ["COMMIT_MESSAGES", "Sender", "TakenOverError", "publish_options", "replay_lane"]

_SEND_MESSAGES = 1_000
"""Publishers make Python objects of what they send; fewer at a time keep memory low."""
COMMIT_MESSAGES = 20_000
"""Messages that are confirmed together at most, and so what may repeat where nothing prevents it."""
_COMMIT_BYTES = 16 << 20
_COMMIT_SECONDS = 2.0
_FILES_AT_A_TIME = 4
_REFUSED = "the destination refused it before the process ended"
_REFUSED_NOTE = (
    "The destination refused more messages than it keeps count of, just before the process ended: they "
    "count as published, and the topic holds fewer."
)


class TakenOverError(PermanentError):
    """Another worker has confirmed rows of this lane, which it works since; this one must end quietly."""


class Sender:
    """Sends checked windows and knows what is not confirmed yet."""

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
        """Messages that fit into what is to be confirmed together, at least one."""
        return max(1, COMMIT_MESSAGES - self.unconfirmed)

    def send(self, checked: Checked) -> None:
        """Hand a window to the publisher. Raises ``TransientError`` as that does."""
        if not self._pending:
            self._since = time.monotonic()
        self._pending.append(checked)
        self._rows += len(checked.window)
        self._bytes += checked.messages.nbytes
        self.unconfirmed += len(checked.messages)
        for start in range(0, len(checked.messages), _SEND_MESSAGES):
            self._publisher.send(checked.messages.slice(start, _SEND_MESSAGES), self._options)

    def due(self) -> bool:
        """Whether so much or so old is unconfirmed that a commit should follow."""
        return bool(self._pending) and (
            self._rows >= COMMIT_MESSAGES
            or self._bytes >= _COMMIT_BYTES
            or time.monotonic() - self._since >= _COMMIT_SECONDS
        )

    def commit(self, done: int) -> list[Checked]:
        """Wait for confirmation of all that was sent.

        Args:
            done: rows of the lane dealt with before what is unconfirmed.

        Returns:
            The windows sent since the last commit, less what was refused.

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
        """Drop what is not confirmed: it will be sent again, or is."""
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
    """Publish one lane of a stored plan in order, going on where an earlier run ended.

    Transient trouble of lake and broker is waited out. Delivery: as ``Plan.deduplication`` says.

    Args:
        plan: the job's stored plan.
        lane: one of ``plan.lanes``.
        lakes: every lake that the plan may point into; the plan lies in the first.
        publisher: opened with ``lane_url`` under the lane's own name, ``<job>-<lane>``; not yet begun.
        stopped: asked all the time; once true the lane ends early and may be resumed.
        pacer: keeps the wished rate, and says when to pause or cancel: the lane then ends early too,
            with what it has sent confirmed, and its report says so.

    Raises:
        TransientError: only once ``stopped`` is true.
        PermanentError: the plan's own objects are gone.
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
        """Whether the lane is to end early; once true, it stays so."""
        if self.report.halted is None and (state := self._pacer.wish().state) != "run":
            self.report.halted = state
        return self.report.halted is not None or self._stopped()

    def run(self) -> None:
        """Begin (again) behind what is confirmed and send the rest of the lane."""
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
        """Count what may have arrived, each message once, however often the destination is lost."""
        done = self.confirmed.done
        end = min(done + unconfirmed, self._plan.lanes[self._lane])
        self.confirmed.may_repeat += max(0, end - max(done, self._doubted))
        self._doubted = max(end, self._doubted)

    def _is_uncertain(self, kept: int | None) -> bool:
        """Whether what was sent last may have arrived without being known here."""
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
        """What is not confirmed, cut where the rows end that the destination has already."""
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
        """What the destination keeps of the lane's progress goes where nobody will ask for it."""
        if self.report.halted == "cancel" or self.confirmed.done == self._plan.lanes[self._lane]:
            self._publisher.finish()

    def _wait(self, future: Future[Checked | None]) -> Checked | None:
        # A slow lake must not keep a transaction open: it stalls every read-committed consumer.
        while True:
            try:
                return future.result(timeout=_COMMIT_SECONDS / 4)
            except NotYet:
                if self._sender.due():
                    self._commit()

    def _count_gap(self, checked: Checked) -> None:
        """Count what the destination has by a commit of which the ledger does not know."""
        self._gap -= len(checked.window)
        if left_out := self._publisher.left_out:
            ids = checked.messages["id"].to_pylist()
            checked.lose({id: _REFUSED for id in ids if is_noted(id, left_out)})
            if UNTOLD in left_out and _REFUSED_NOTE not in self.report.notes:
                self.report.notes.append(_REFUSED_NOTE)
        self.earlier.add(checked.tally())
        self._count([checked])

    def _send(self, checked: Checked) -> None:
        """Send a window as fast as is wished, in parts where that is slow."""
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
        pa.default_memory_pool().release_unused()  # or what windows leave behind adds up
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
