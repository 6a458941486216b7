"""Small resubmissions, sent at once by this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from functools import partial
from typing import Any

from resubmit_api.backends import Backends
from resubmit_api.errors import RETRY_AFTER, AwayError, needs, stores
from resubmit_api.jobs.ends import Ends
from resubmit_api.publishers import Lent
from transforms.errors import ConfigurationError, TransientError
from transforms.job_row import Row
from transforms.jobs.actions import create, release
from transforms.jobs.leases import UnknownJobError, change, held_by, new_owner
from transforms.jobs.rows import ended, failed, options_of, planned, progressed, selection_of
from transforms.replay import replay_inline
from transforms.retry import retry

__all__ = ["LOST", "Inline"]

LOST = "The service stopped while sending; some messages may have been sent."
"""The reason of a small resubmission that FAILED because its process is gone."""

_THREADS = 4
_MOST_WAITING = 32
"""Of one destination; another destination has its own threads and its own queue."""
_ANSWER_WITHIN = 2.0
"""Seconds a response waits for the end; then it reports the current state."""
_GIVE_UP_AFTER = 600.0


class _Line:
    """The threads and the queue of one destination, so that one that does not answer delays no other."""

    def __init__(self, name: str) -> None:
        self.threads = ThreadPoolExecutor(_THREADS, f"inline-{name}")
        self.places = threading.BoundedSemaphore(_MOST_WAITING)


class Inline:
    """Sends small selections through open publishers, while this process holds the lease of their rows.

    Delivery: once; if the process dies meanwhile, the row states that some messages may have been sent.
    """

    def __init__(self, backends: Backends, limit: int, ends: Ends) -> None:
        """Accept selections of up to ``limit`` messages."""
        self.limit = limit
        self._backends, self._ends = backends, ends
        self._lines = {name: _Line(name) for name in backends.publishers.names()}
        self._working: dict[str, str] = {}
        self._closing = threading.Event()

    def submit(self, row: Row) -> Row:
        """Accept a resubmission; returns its row, or that of an earlier request with the same key.

        Raises:
            ConfigurationError: the request cannot be carried out.
            TransientError: a server does not answer, or too many requests are waiting.
        """
        # Of an unknown destination, which ends with its error.
        line = self._lines.get(row["destination"]) or next(iter(self._lines.values()))
        if not line.places.acquire(blocking=False):
            raise AwayError(
                f"{_MOST_WAITING} resubmissions to {row['destination']} are waiting; try again in "
                f"{RETRY_AFTER} seconds."
            )
        stored: Future[Row] = Future()
        future = line.threads.submit(self._run, row, stored)
        future.add_done_callback(lambda _: line.places.release())
        future.add_done_callback(lambda done: _settle(stored, done))
        try:
            return future.result(_ANSWER_WITHIN)
        except NotYetError:
            return stored.result()  # do not answer with a resubmission before its row exists

    def renew(self) -> None:
        """Renew the leases of open resubmissions. Raises ``TransientError`` if the index does not answer."""
        for id, owner in list(self._working.items()):
            with contextlib.suppress(UnknownJobError):  # the index was created anew
                change(self._backends.index, id, partial(_renewed, owner=owner))

    def close(self) -> None:
        """Finish the resubmissions in progress."""
        self._closing.set()
        for line in self._lines.values():
            line.threads.shutdown(wait=True)

    def _run(self, row: Row, stored: Future[Row]) -> Row:
        # If several requests share a row, the one that stored it sends it.
        owner, name, topic = new_owner(), row["destination"], row["topic"]
        with needs(f"Destination {name}"), self._backends.publishers.lend(name, topic) as lent:
            with stores(row):
                made = create(self._backends.index, held_by(row, owner), "resubmit")
            if not _is_held(made, owner):
                stored.set_result(made)
                return made
            with self._working_on(made, owner), needs("The index, a lake or the destination"):
                stored.set_result(made)
                return self._send(made, lent)

    def _send(self, row: Row, lent: Lent) -> Row:
        plan, report = replay_inline(
            self._backends.index,
            self._backends.lakes,
            selection_of(row),
            url=lent.url,
            publisher=lent.publisher,
            destination=lent.destination,
            options=options_of(row),
            job=row["id"],
            most=self.limit,
        )
        return self._finish(row, lambda row: ended(progressed(planned(row, plan), report), report))

    @contextlib.contextmanager
    def _working_on(self, row: Row, owner: str) -> Iterator[None]:
        """Hold the row; however sending ends, the row is ended too."""
        self._working[row["id"]] = owner
        reason, refused = "The service failed; see its log.", False
        try:
            yield
            reason = ""
        except ConfigurationError as error:
            reason, refused = " ".join(error.problems), True
            raise
        except TransientError as error:
            reason = f"A server did not answer; some messages may have been sent: {error}"
            raise
        finally:
            del self._working[row["id"]]
            if reason:
                self._finish(row, lambda row: {**failed(row, reason), "refused": refused})

    def _finish(self, row: Row, function: Any) -> Row:
        row = retry(
            lambda: change(self._backends.index, row["id"], function, row),
            f"store {row['id']}",
            give_up_after=_GIVE_UP_AFTER,
            stopped=self._closing.is_set,
        )
        self._ends.ended(row)
        release(self._backends.index, row)
        return row


def _is_held(row: Row, owner: str) -> bool:
    return row["lease"] is not None and row["lease"]["owner"] == owner


def _renewed(row: Row, owner: str) -> Row:
    return held_by(row, owner) if _is_held(row, owner) else row


def _settle(stored: Future[Row], done: Future[Row]) -> None:
    """Pass a failure before the row is stored to the caller that waits for the row."""
    if not stored.done():
        stored.set_exception(done.exception() or RuntimeError("no row was stored"))
