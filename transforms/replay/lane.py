"""One lane of a job: reading ahead, sending in order, committing, and going on after a failure."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.brokers import FencedError, Publisher, PublishOptions, Undelivered
from transforms.errors import retry
from transforms.lake import Lake
from transforms.replay.ledger import Ledger
from transforms.replay.outcome import Report, Tally
from transforms.replay.plans import Options, Plan, read_windows
from transforms.replay.windows import Checked, read_window

__all__ = ["Sender", "replay_lane"]

_SEND_MESSAGES = 5_000
"""Publishers make Python objects of what they send; fewer at a time keep memory low."""
_COMMIT_MESSAGES = 20_000
_COMMIT_BYTES = 16 << 20
_COMMIT_SECONDS = 2.0
_FILES_AT_A_TIME = 4


class Sender:
    """Sends checked windows and knows what is not confirmed yet."""

    def __init__(self, publisher: Publisher, options: Options) -> None:
        """Send through an open publisher as a plan's options say."""
        self._publisher = publisher
        self._options = PublishOptions(
            original_time=options.timestamp == "original", partitions=options.partitions or "key"
        )
        self._pending: list[Checked] = []
        self._since = 0.0
        self.unconfirmed = 0

    def send(self, checked: Checked) -> None:
        """Hand a window to the publisher. Raises ``TransientError`` as that does."""
        if not self._pending:
            self._since = time.monotonic()
        self._pending.append(checked)
        self.unconfirmed += len(checked.messages)
        for start in range(0, len(checked.messages), _SEND_MESSAGES):
            self._publisher.send(checked.messages.slice(start, _SEND_MESSAGES), self._options)

    def due(self) -> bool:
        """Whether so much or so old is unconfirmed that a commit should follow."""
        return bool(self._pending) and (
            sum(c.rows for c in self._pending) >= _COMMIT_MESSAGES
            or sum(c.messages.nbytes for c in self._pending) >= _COMMIT_BYTES
            or time.monotonic() - self._since >= _COMMIT_SECONDS
        )

    def commit(self, done: int) -> Tally:
        """Wait for confirmation of all that was sent.

        Args:
            done: rows of the lane dealt with before what is unconfirmed.

        Returns:
            What became of the windows sent since the last commit.

        Raises:
            TransientError: begin again.
        """
        tally = Tally()
        if not self._pending:
            return tally
        undelivered = self._publisher.commit(done + sum(checked.rows for checked in self._pending))
        for checked in self._pending:
            _take_back(checked, undelivered)
            tally.add(checked.tally)
        self.forget()
        return tally

    def forget(self) -> None:
        """Drop what is not confirmed: it will be sent again, or is."""
        self._pending, self.unconfirmed = [], 0


def _take_back(checked: Checked, undelivered: list[Undelivered]) -> None:
    if not undelivered:
        return
    reasons = {message.id: message.reason for message in undelivered}
    ids = checked.messages["id"]
    found = pc.is_in(ids, value_set=pa.array(list(reasons), pa.string())).to_numpy()
    by_checksum = int(checked.by_checksum[found].sum())
    checked.tally.published -= int(found.sum())
    checked.tally.verified_by_checksum -= by_checksum
    checked.tally.verified_by_id -= int(found.sum()) - by_checksum
    for row in np.flatnonzero(found).tolist():
        message = ids[row].as_py(), checked.locations[row].as_py()
        checked.tally.fail("undelivered", reasons[message[0]], [message])


def replay_lane(
    plan: Plan,
    lane: int,
    lakes: Sequence[Lake],
    publisher: Publisher,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> Report:
    """Publish one lane of a stored plan in order, going on where an earlier run ended.

    Transient trouble of lake and broker is waited out. Delivery: as ``Plan.deduplication`` says.

    Args:
        plan: the job's stored plan.
        lane: one of ``plan.lanes``.
        lakes: every lake that the plan may point into; the plan lies in the first.
        publisher: opened under the lane's own name, ``<job>-<lane>``; not yet begun.
        stopped: asked between windows; once true the lane ends early and may be resumed.

    Raises:
        TransientError: only once ``stopped`` is true.
        PermanentError: the plan's own objects are gone.
    """
    work = _Lane(plan, lane, lakes, publisher, stopped)
    started = time.monotonic()
    try:
        retry(work.run, f"resubmit lane {lane} of job {plan.job}", stopped=stopped)
    except FencedError as error:
        work.report.notes.append(f"Lane {lane} was taken over by another worker: {error}.")
    work.report.settle(work.confirmed, work.earlier, time.monotonic() - started)
    return work.report


class _Lane:
    def __init__(
        self,
        plan: Plan,
        lane: int,
        lakes: Sequence[Lake],
        publisher: Publisher,
        stopped: Callable[[], bool],
    ) -> None:
        self._plan, self._lane, self._lakes = plan, lane, lakes
        self._publisher, self._stopped = publisher, stopped
        self._ledger = Ledger(lakes[0], plan, lane)
        self._sender = Sender(publisher, plan.options)
        self.confirmed, self.earlier = Tally(), Tally()
        self._started = self._closing = False
        self._gap = 0
        self.report = Report(job=plan.job, destination=plan.topic, planned=plan.lanes[lane])

    def run(self) -> None:
        """Begin (again) behind what is confirmed and send the rest of the lane."""
        self._begin()
        self._closing = False
        with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(_FILES_AT_A_TIME) as files:
            windows = self._read(files)
            try:
                self._send_all(lambda: ahead.submit(next, windows, None))
            finally:
                self._closing = True

    def _begin(self) -> None:
        kept = self._publisher.begin()
        unconfirmed, again = self._sender.unconfirmed, self._started
        self._sender.forget()
        if not self._started:
            self.confirmed, again = self._ledger.start()
            self.earlier = copy.deepcopy(self.confirmed)
            self._started, unconfirmed = True, _COMMIT_MESSAGES
        self._gap = max(0, (kept or 0) - self.confirmed.done)
        if again and self._is_uncertain(kept):
            left = self._plan.lanes[self._lane] - self.confirmed.done
            self.confirmed.may_repeat += min(unconfirmed, left)

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
                stopped=lambda: self._closing or self._stopped(),
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
        while (checked := self._wait(future)) is not None and not self._stopped():
            future = read_next()
            if self._gap > 0:
                self._count_gap(checked)
            else:
                self._sender.send(checked)
            if self._sender.due():
                self._commit()
        self._commit()
        if self.confirmed.done == self._plan.lanes[self._lane]:
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
        self._gap -= checked.rows
        self.confirmed.add(checked.tally)
        self.earlier.add(checked.tally)

    def _commit(self) -> None:
        self.confirmed.add(self._sender.commit(self.confirmed.done))
        what = f"keep the progress of job {self._plan.job}"
        pa.default_memory_pool().release_unused()  # or what windows leave behind adds up
        retry(lambda: self._ledger.write(self.confirmed), what, stopped=self._stopped)
