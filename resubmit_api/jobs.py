"""Resubmissions: small ones at once in this process, large ones as a job outside of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from typing import Any

from resubmit_api import job_rows
from resubmit_api.backends import Backends
from resubmit_api.errors import RETRY_AFTER, AwayError, in_words_of_requests, needs, problem
from resubmit_api.launchers import Launcher
from resubmit_api.launchers.subprocess import same_process
from resubmit_api.metrics import Metrics
from resubmit_api.publishers import Lent
from resubmit_api.schemas import ReplayRequest
from transforms.brokers import Destination
from transforms.errors import ConfigurationError, PersistorError, TransientError, retry
from transforms.replay import freeze_plan, replay_inline
from transforms.replay.ledger import total
from transforms.replay.plans import Plan, load_plan
from transforms.selection import Selection

__all__ = ["Jobs"]

_INLINE_THREADS = 8
_MOST_WAITING = 64
_ANSWER_WITHIN = 2.0
"""Seconds an answer waits for a small resubmission to end; then it tells the state of that moment."""
_JOBS_AT_ONCE = 4
_GIVE_UP_AFTER = 600.0
_TAKEN_UP = 1000

_Row = dict[str, Any]


class Jobs:
    """Every resubmission is a row in the index store before anything of it is sent.

    Delivery: a small one is sent once; if the service dies meanwhile its row is found failed at
    the next start and says so. A large one is a frozen plan and a process that outlives the
    service; the next start watches it again.
    """

    def __init__(self, backends: Backends, launcher: Launcher, inline_limit: int, metrics: Metrics) -> None:
        self._backends = backends
        self._launcher = launcher
        self._inline_limit = inline_limit
        self._metrics = metrics
        self._inline = ThreadPoolExecutor(_INLINE_THREADS, "inline")
        self._places = threading.BoundedSemaphore(_MOST_WAITING)
        self._job_places = threading.BoundedSemaphore(_JOBS_AT_ONCE)
        self._closing = threading.Event()

    def submit(self, request: ReplayRequest, requested_by: str | None) -> _Row:
        """Take a resubmission on; the row as it is when this returns.

        Raises:
            ConfigurationError: it cannot be done as asked.
            TransientError: something is away, or too many wait.
        """
        if self._is_small(request.selection):
            return self._submit_inline(job_rows.new_row(request, "inline", requested_by))
        with needs(f"Destination {request.destination}"):
            self._look_up(request.destination, request.topic)
        row = self._put(job_rows.new_row(request, "job", requested_by))
        self._begin(self._run_job, row)
        return row

    def get(self, id: str) -> _Row:
        """A resubmission; 404 where there is none."""
        with needs("The index"):
            row = self._backends.index.get_job(id)
        if row is None:
            raise problem(404, "resubmission", "No resubmission has that id.")
        return self._with_progress(row) if row["state"] == "RUNNING" and row["mode"] == "job" else row

    def list(self, limit: int, before: str | None) -> list[_Row]:
        """The latest resubmissions first."""
        with needs("The index"):
            return self._backends.index.list_jobs(limit, before)

    def take_up(self) -> None:
        """Answer for what an earlier process of this service left unfinished on this machine."""
        threading.Thread(target=self._take_up, name="take-up", daemon=True).start()

    def close(self) -> None:
        """Finish small resubmissions; large ones go on by themselves."""
        self._closing.set()
        self._inline.shutdown(wait=True)

    def _is_small(self, selection: Selection) -> bool:
        known = [count for count in (len(selection.ids), selection.limit) if count]
        if known and min(known) <= self._inline_limit:
            return True
        with needs("The index"):
            found = self._backends.index.summarize(selection)
        return sum(source.messages for source in found) <= self._inline_limit

    def _with_progress(self, row: _Row) -> _Row:
        """What the job's own ledger in the lake says, whichever process works on it."""
        lake = self._backends.lakes[0]
        try:
            return job_rows.progressed(row, total(lake, load_plan(lake, row["id"])))
        except (TransientError, ConfigurationError):
            return row  # as it was told last; the state does not depend on it

    # Small: in this process.

    def _submit_inline(self, row: _Row) -> _Row:
        if not self._places.acquire(blocking=False):
            raise AwayError(f"{_MOST_WAITING} resubmissions are waiting; try again in {RETRY_AFTER} seconds.")
        stored = threading.Event()
        future = self._inline.submit(self._run_inline, row, stored)
        future.add_done_callback(lambda _: self._places.release())
        future.add_done_callback(lambda _: stored.set())
        stored.wait()  # an answer that names a resubmission is not given before there is one
        try:
            return future.result(_ANSWER_WITHIN)
        except NotYetError:
            return job_rows.running(row)

    def _run_inline(self, row: _Row, stored: threading.Event) -> _Row:
        name, topic = row["destination"], row["topic"]
        with needs(f"Destination {name}"), self._backends.publishers.lend(name, topic) as lent:
            row = self._put(job_rows.running(row))
            stored.set()
            with self._told(row), needs("The index, a lake or the destination"):
                plan, report = self._replay(row, lent)
            return self._finish(job_rows.ended(job_rows.planned(row, plan), report.to_dict()))

    def _replay(self, row: _Row, lent: Lent) -> Any:
        return replay_inline(
            self._backends.index,
            self._backends.lakes,
            job_rows.selection_of(row),
            url=lent.url,
            publisher=lent.publisher,
            destination=lent.destination,
            options=job_rows.options_of(row),
            job=row["id"],
            most=self._inline_limit,
        )

    # Large: a process of its own, watched by a thread.

    def _begin(self, work: Callable[[_Row], object], row: _Row) -> None:
        threading.Thread(target=work, args=(row,), name=row["id"], daemon=True).start()

    def _run_job(self, row: _Row) -> None:
        # What goes wrong is told by the row; nobody waits for this thread.
        with self._job_places, contextlib.suppress(PersistorError), self._told(row):
            plan = retry(lambda: self._freeze(row), f"plan {row['id']}", **self._patience())
            row = job_rows.planned(row, plan)
            run = retry(lambda: self._launch(row), f"start {row['id']}", **self._patience())
            self._watch(self._put(job_rows.running(row, run)))

    def _freeze(self, row: _Row) -> Plan:
        destination = self._look_up(row["destination"], row["topic"])
        url, _ = self._backends.publishers.address(row["destination"], row["topic"])
        return freeze_plan(
            self._backends.index,
            self._backends.lakes,
            job_rows.selection_of(row),
            url=url,
            destination=destination,
            options=job_rows.options_of(row),
            job=row["id"],
        )

    def _launch(self, row: _Row) -> _Row:
        url, config = self._backends.publishers.address(row["destination"], row["topic"])
        settings = {
            "index": self._backends.index_url,
            "lake": self._backends.lake_urls,
            "lake_config": self._backends.lake_config,
            "destination": url,
            "destination_config": dict(config),
            "resume": row["id"],
        }
        return self._launcher.start(row["id"], settings)

    def _watch(self, row: _Row) -> None:
        outcome = self._launcher.wait(row["run"])
        if outcome.report is not None:
            self._finish(job_rows.ended(row, outcome.report))
            self._launcher.forget(row["run"])
        else:
            self._finish(job_rows.failed(self._with_progress(row), outcome.reason))

    def _look_up(self, name: str, topic: str) -> Destination:
        with self._backends.publishers.lend(name, topic) as lent:
            return lent.destination

    # What an earlier process left behind.

    def _take_up(self) -> None:
        rows = retry(lambda: self._backends.index.list_jobs(_TAKEN_UP), "list the jobs", **self._patience())
        for row in rows:
            if row.get("state") in job_rows.UNFINISHED and self._is_orphan(row.get("service")):
                self._adopt({**row, "service": job_rows.this_service()})

    def _is_orphan(self, service: _Row | None) -> bool:
        here = job_rows.this_service()["host"]
        return service is not None and service["host"] == here and same_process(service) is None

    def _adopt(self, row: _Row) -> None:
        if row["mode"] == "inline":
            reason = "The service stopped while it sent; part of it may have been sent."
            self._finish(job_rows.failed(row, reason))
        else:
            self._begin(self._watch if row["run"] else self._run_job, self._put(row))

    def _put(self, row: _Row) -> _Row:
        with needs("The index"):
            self._backends.index.put_job(row)
        return row

    def _finish(self, row: _Row) -> _Row:
        retry(lambda: self._backends.index.put_job(row), f"store {row['id']}", **self._patience())
        self._metrics.finished(row)
        return row

    @contextlib.contextmanager
    def _told(self, row: _Row) -> Iterator[None]:
        """Whatever ends a job ends its row too; one that waits for a start is left to the next service."""
        reason = "The service failed on it; its log says why."
        try:
            yield
            reason = ""
        except ConfigurationError as error:
            reason = in_words_of_requests(" ".join(error.problems))
            raise
        except TransientError as error:
            waits = row["state"] == "PLANNED" and self._closing.is_set()
            reason = "" if waits else f"Something was away, and part of it may have been sent: {error}"
            raise
        finally:
            if reason:
                self._finish(job_rows.failed(row, reason))

    def _patience(self) -> dict[str, Any]:
        return {"give_up_after": _GIVE_UP_AFTER, "stopped": self._closing.is_set}
