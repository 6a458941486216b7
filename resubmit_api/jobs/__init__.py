"""Resubmissions: small ones run at once in this process, large ones as a job outside it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as NotYetError
from functools import partial
from typing import Any, cast

from resubmit_api.backends import Backends
from resubmit_api.errors import needs, problem, stores
from resubmit_api.jobs.answers import Answer, job_answer, row_from_request
from resubmit_api.jobs.dispatcher import Dispatcher
from resubmit_api.jobs.ends import Ends
from resubmit_api.jobs.inline import Inline
from resubmit_api.jobs.planning import Planning
from resubmit_api.jobs.webhook import open_webhook
from resubmit_api.launchers import Launcher
from resubmit_api.metrics import Metrics
from resubmit_api.schemas import Rate, ReplayRequest
from transforms.budget import Budget, TooSlowError, within
from transforms.errors import ConfigurationError
from transforms.job_row import Row
from transforms.jobs import states
from transforms.jobs.actions import act, create, retry_of
from transforms.jobs.leases import UnknownJobError
from transforms.jobs.listing import JobFilter, list_page
from transforms.jobs.rows import by_command
from transforms.replay.routing import is_pattern

__all__ = ["UNHURRIED", "Jobs"]

UNHURRIED = Rate()
"""No rate limit."""

_PLAN_WITHIN = 5.0
"""Seconds a response waits for a plan; then it gives the address to poll."""
_COUNTED_WITHIN = 0.5
"""Seconds to find out whether a selection is small; one that takes longer is not."""


class Jobs:
    """Stores every resubmission as a row in the index store before anything is sent.

    Every change goes through this class and is recorded in the audit trail.

    Delivery: a small one is sent once; if the service dies meanwhile, its row is marked FAILED with that
    reason. A large one is a frozen plan and a process that outlives the service; every replica takes over
    jobs that another one lost.
    """

    def __init__(self, backends: Backends, launcher: Launcher, inline_limit: int, metrics: Metrics) -> None:
        self._backends = backends
        webhook = open_webhook(backends.settings, lambda: backends.index)
        self._marks: dict[str, Any] = {} if webhook is None else {"notify": "due"}
        self._ends = Ends(metrics, webhook)
        self._inline = Inline(backends, inline_limit, self._ends)
        self._planning = Planning(backends)
        self._dispatcher = Dispatcher(backends, launcher, self._ends, self._inline, self._planning)

    def take_up(self) -> None:
        """Start working on jobs, including those that others left unfinished."""
        self._dispatcher.start()

    def leave(self) -> None:
        """Take up no job any more. May be called by a handler of signals."""
        self._dispatcher.leave()

    def close(self) -> None:
        """Finish small resubmissions; large ones continue on their own."""
        self._inline.close()  # first, because the dispatcher renews its leases
        self._planning.close()
        self._dispatcher.close()

    def plan(self, request: ReplayRequest, requested_by: str | None) -> Answer:
        """Plan a resubmission and store the plan; figures may be missing while it is made.

        Raises:
            ConfigurationError: the request cannot be planned.
            TransientError: a server does not answer.
        """
        with needs(f"Destination {request.destination}"):
            self._planning.look_up(request.destination, request.topic)
        row = row_from_request(
            request, requested_by, state="PLANNED", **self._approval(request, requested_by)
        )
        with stores(row):
            row = create(self._backends.index, row, "plan")
        future = self._planning.begin(row)
        with contextlib.suppress(NotYetError), needs("The index, a lake or the destination"):
            row = row if future is None else future.result(_PLAN_WITHIN)
        if row["state"] == "FAILED" and row["plan"] is None:
            raise ConfigurationError((row["reason"] or "").splitlines())
        return self._answer(row)

    def submit(
        self,
        request: ReplayRequest,
        requested_by: str | None,
        *,
        rate: Rate = UNHURRIED,
        key: str | None = None,
        body: str | None = None,
    ) -> Answer:
        """Accept a resubmission; returns its row.

        Args:
            request: what to send and where to.
            requested_by: name of the caller.
            rate: maximum rate.
            key: idempotency key; the same key again returns the same resubmission.
            body: digest of the request; it must be the same for the same key.

        Raises:
            ConfigurationError: the request cannot be carried out.
            TransientError: a server does not answer, or too many requests are waiting.
        """
        if request.destination in self._backends.settings.approval:
            raise ConfigurationError(
                f"Destination {request.destination} takes only approved plans: make a plan, have another "
                "person approve it, then run it."
            )
        kept = {"idempotency_key": key, "request": body, "rate": rate.model_dump(), **self._marks}
        if rate == UNHURRIED and request.options.times_original is None and self._is_small(request):
            row = row_from_request(request, requested_by, mode="inline", **kept)
            return self._answer(_checked_key(self._inline.submit(row), row))
        with needs(f"Destination {request.destination}"):
            self._planning.look_up(request.destination, request.topic)
        return self._answer(self._create(row_from_request(request, requested_by, **kept), "resubmit"))

    def run_plan(
        self,
        id: str,
        requested_by: str | None,
        *,
        rate: Rate = UNHURRIED,
        key: str | None = None,
        note: str | None = None,
    ) -> Answer:
        """Send exactly what a plan holds; the same key again returns the row of the first request.

        Raises:
            ConfigurationError: the destination would refuse it by now.
            WrongStateError: it runs or ran already, the plan has problems, or it is not ready.
            TransientError: the index, the destination or the lake does not answer.
        """
        by = [requested_by, key]
        if "run" in (row := self.get(id))["possible"]:
            with needs(f"Destination {row['destination']} or the lake"):
                self._planning.check_run(row)

        def run(row: Row) -> Row:
            if key is not None and row.get("run_key") == by:
                return row
            if row["destination"] in self._backends.settings.approval and "approval" not in row:
                raise ConfigurationError("The plan was made before approval was required: make a new plan.")
            run = states.run(row, requested_by, rate.model_dump())
            marks = self._marks | ({"note": note} if note else {})
            return cast("Row", {**run, **marks, "run_key": by})

        return self._act(id, "run", run, requested_by)

    def get(self, id: str) -> Answer:
        """A resubmission or a plan; 404 if there is none."""
        with needs("The index"):
            row = self._backends.index.get_job(id)
        if row is None:
            raise problem(404, "resubmission", "No resubmission has this id.")
        return self._answer(row)

    def page(
        self,
        wanted: JobFilter,
        limit: int,
        before: str | None = None,
        may_see: Callable[[Row], bool] = lambda _: True,
    ) -> tuple[list[Answer], str | None]:
        """Resubmissions, latest first; see :func:`transforms.jobs.listing.list_page`."""
        with needs("The index"):
            rows, following = list_page(self._backends.index, wanted, limit, before, may_see)
        return [self._answer(row) for row in rows], following

    def approve(self, id: str, who: str | None) -> Answer:
        """Approve a plan, as another person than who asked for it.

        Raises:
            ConfigurationError: it is the same person.
            WrongStateError: it is no plan that can be approved.
            TransientError: the index does not answer.
        """
        row = self.get(id)
        shown = {"plan": row["approval"]["plan"]} if "approval" in row else {}
        return self._act(id, "approve", partial(states.approve, who=who), who, **shown)

    def pause(self, id: str, who: str | None) -> Answer:
        """Pause a job. Raises ``WrongStateError``, like the next four methods."""
        return self._act(id, "pause", states.pause, who)

    def resume(self, id: str, who: str | None) -> Answer:
        """Continue a job where it stopped."""
        return self._act(id, "resume", states.resume, who)

    def cancel(self, id: str, who: str | None) -> Answer:
        """Cancel a job or discard a plan; messages already sent stay sent."""
        return self._act(id, "cancel", states.cancel, who)

    def set_rate(self, id: str, rate: Rate, who: str | None) -> Answer:
        """Change the maximum rate of a job."""
        limits = rate.model_dump()
        return self._act(id, "rate", partial(states.set_rate, rate=limits), who, rate=limits)

    def set_note(self, id: str, note: str | None, who: str | None) -> Answer:
        """Change what is noted about a job, in any state."""
        return self._act(id, "note", partial(states.set_note, note=note), who, note=note)

    def retry(self, id: str, who: str | None) -> Answer:
        """Send the failed messages of a job as a new job; returns its row.

        Raises:
            ConfigurationError: the destination would refuse it now.
            WrongStateError: nothing can be retried, or it was retried already.
            TransientError: the index, the destination or the lake does not answer.
        """
        self._check_retry(self.get(id))
        with _if_known(), needs("The index"):
            row = cast("Row", {**retry_of(self._backends.index, id, who), **self._marks})
        return self._answer(
            self._inline.submit(row) if row["mode"] == "inline" else self._create(row, "retry")
        )

    def _approval(self, request: ReplayRequest, by: str | None) -> dict[str, Any]:
        needed = request.destination in self._backends.settings.approval
        return {"approval": {"plan": None, "planned_by": by, "by": None, "at": None}} if needed else {}

    def _answer(self, row: Row) -> Answer:
        return job_answer(row, self._dispatcher.queued.get(row["id"]))

    def _check_retry(self, row: Answer) -> None:
        # A job begun by the command continues by the command; its destination has no name here.
        if "retry" in row["possible"] and not by_command(row):
            with needs(f"Destination {row['destination']} or the lake"):
                self._planning.check_retry(row)

    def _is_small(self, request: ReplayRequest) -> bool:
        if is_pattern(request.topic):
            return False
        selection = request.selection
        known = [count for count in (len(selection.ids), selection.limit) if count]
        if known and min(known) <= self._inline.limit:
            return True
        most = self._inline.limit
        try:
            with needs("The index"), within(Budget(time.monotonic() + _COUNTED_WITHIN)):
                return self._backends.index.count(selection, most + 1) <= most
        except TooSlowError:  # a job finds out by planning
            return False

    def _create(self, row: Row, action: str) -> Row:
        with stores(row):
            made = create(self._backends.index, row, action)
        self._dispatcher.nudge()
        return _checked_key(made, row)

    def _act(
        self, id: str, action: str, function: Callable[[Row], Row], who: str | None, **others: Any
    ) -> Answer:
        with _if_known(), needs("The index"):
            row = act(self._backends.index, id, action, function, who, **others)
        self._ends.report(row)
        self._dispatcher.nudge()
        return self._answer(row)


@contextlib.contextmanager
def _if_known() -> Iterator[None]:
    try:
        yield
    except UnknownJobError as error:
        raise problem(404, "resubmission", "No resubmission has this id.") from error


def _checked_key(made: Row, asked: Row) -> Row:
    """Require that the row found by a key belongs to the same request."""
    if made["request"] != asked["request"]:
        raise problem(422, "key", "This Idempotency-Key was used for another request; use a new one.")
    return made
