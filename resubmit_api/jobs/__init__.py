"""Resubmissions: small ones at once in this process, large ones as a job outside of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as NotYetError
from functools import partial
from typing import Any

from resubmit_api.backends import Backends
from resubmit_api.errors import needs, problem, stores
from resubmit_api.jobs.answers import Answer, row_from_request, told
from resubmit_api.jobs.dispatcher import Dispatcher
from resubmit_api.jobs.inline import Inline
from resubmit_api.jobs.planning import Planning
from resubmit_api.launchers import Launcher
from resubmit_api.metrics import Metrics
from resubmit_api.schemas import Rate, ReplayRequest
from transforms.errors import ConfigurationError
from transforms.job_row import Row
from transforms.jobs import states
from transforms.jobs.actions import act, create, retry_of
from transforms.jobs.leases import UnknownJobError
from transforms.jobs.rows import by_command
from transforms.jobs.states import LISTED
from transforms.replay.routing import is_pattern

__all__ = ["LISTED", "UNHURRIED", "Jobs"]

UNHURRIED = Rate()
"""As fast as it can."""

_PLAN_WITHIN = 5.0
"""Seconds an answer waits for a plan; then it tells where to ask for it."""


class Jobs:
    """Every resubmission is a row in the index store before anything of it is sent.

    Whatever changes one goes through here, and leaves a record in the audit trail.

    Delivery: a small one is sent once; if the service dies meanwhile its row is found failed and
    says so. A large one is a frozen plan and a process that outlives the service; every replica
    takes up what another one has lost.
    """

    def __init__(self, backends: Backends, launcher: Launcher, inline_limit: int, metrics: Metrics) -> None:
        self._backends = backends
        self._inline = Inline(backends, inline_limit, metrics)
        self._planning = Planning(backends)
        self._dispatcher = Dispatcher(backends, launcher, metrics, self._inline, self._planning)

    def take_up(self) -> None:
        """Begin to answer for jobs, also for those that others have left unfinished."""
        self._dispatcher.start()

    def close(self) -> None:
        """Finish small resubmissions; large ones go on by themselves."""
        self._inline.close()  # the dispatcher renews what it holds
        self._planning.close()
        self._dispatcher.close()

    def plan(self, request: ReplayRequest, requested_by: str | None) -> Answer:
        """Plan a resubmission and keep the plan; without figures yet where that takes long.

        Raises:
            ConfigurationError: it cannot be planned as asked.
            TransientError: something is away.
        """
        with needs(f"Destination {request.destination}"):
            self._planning.look_up(request.destination, request.topic)
        row = row_from_request(request, requested_by, state="PLANNED")
        with stores(row):
            row = create(self._backends.index, row, "plan")
        future = self._planning.begin(row)
        with contextlib.suppress(NotYetError), needs("The index, a lake or the destination"):
            row = row if future is None else future.result(_PLAN_WITHIN)
        if row["state"] == "FAILED" and row["plan"] is None:
            raise ConfigurationError((row["reason"] or "").splitlines())
        return told(row)

    def submit(
        self,
        request: ReplayRequest,
        requested_by: str | None,
        *,
        rate: Rate = UNHURRIED,
        key: str | None = None,
        body: str | None = None,
    ) -> Answer:
        """Take a resubmission on; the row as it is when this returns.

        Args:
            request: what to send and where to.
            requested_by: who asks.
            rate: how fast, at most.
            key: what the requester calls this request; the same again gives the same resubmission.
            body: what the same key must always come with.

        Raises:
            ConfigurationError: it cannot be done as asked.
            TransientError: something is away, or too many wait.
        """
        kept = {"idempotency_key": key, "request": body, "rate": rate.model_dump()}
        if rate == UNHURRIED and self._is_small(request):
            row = row_from_request(request, requested_by, mode="inline", **kept)
            return told(_same(self._inline.submit(row), row))
        with needs(f"Destination {request.destination}"):
            self._planning.look_up(request.destination, request.topic)
        return told(self._create(row_from_request(request, requested_by, **kept), "resubmit"))

    def run_plan(
        self, id: str, requested_by: str | None, *, rate: Rate = UNHURRIED, key: str | None = None
    ) -> Answer:
        """Send just what a plan holds; with the same key again, the row of the first time.

        Raises:
            WrongStateError: it runs or ran already, something speaks against it, or it is not ready.
            TransientError: the index is away.
        """
        by = [requested_by, key]

        def run(row: Row) -> Row:
            known = key is not None and row.get("run_key") == by
            return row if known else {**states.run(row, requested_by, rate.model_dump()), "run_key": by}

        return self._act(id, "run", run, requested_by)

    def get(self, id: str) -> Answer:
        """A resubmission or a plan; 404 where there is none."""
        with needs("The index"):
            row = self._backends.index.get_job(id)
        if row is None:
            raise problem(404, "resubmission", "No resubmission has that id.")
        return told(row)

    def list(self, limit: int, before: str | None, in_states: Sequence[str] = LISTED) -> list[Answer]:
        """The latest resubmissions first."""
        with needs("The index"):
            return [told(row) for row in self._backends.index.list_jobs(limit, before, in_states)]

    def pause(self, id: str, who: str | None) -> Answer:
        """Send no more of a job for now. Raises ``WrongStateError``, as do the next four."""
        return self._act(id, "pause", states.pause, who)

    def resume(self, id: str, who: str | None) -> Answer:
        """Go on with a job where it was."""
        return self._act(id, "resume", states.resume, who)

    def cancel(self, id: str, who: str | None) -> Answer:
        """End a job, or forget a plan; what was sent stays sent."""
        return self._act(id, "cancel", states.cancel, who)

    def set_rate(self, id: str, rate: Rate, who: str | None) -> Answer:
        """Let a job go at most so fast from now on."""
        limits = rate.model_dump()
        return self._act(id, "rate", partial(states.set_rate, rate=limits), who, rate=limits)

    def retry(self, id: str, who: str | None) -> Answer:
        """Send what a job could not publish, as a job of its own, whose row this is.

        Raises:
            ConfigurationError: the destination would refuse it by now.
            WrongStateError: nothing of it can be tried again, or that was done already.
            TransientError: the index, the destination or the lake is away.
        """
        self._check_retry(self.get(id))
        with _known(), needs("The index"):
            row = retry_of(self._backends.index, id, who)
        return told(self._inline.submit(row) if row["mode"] == "inline" else self._create(row, "retry"))

    def _check_retry(self, row: Answer) -> None:
        # What the command began goes on by the command, to an address that has no name here.
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
        with needs("The index"):
            found = self._backends.index.summarize(selection)
        return sum(source.messages for source in found) <= self._inline.limit

    def _create(self, row: Row, action: str) -> Row:
        with stores(row):
            made = create(self._backends.index, row, action)
        self._dispatcher.nudge()
        return _same(made, row)

    def _act(
        self, id: str, action: str, function: Callable[[Row], Row], who: str | None, **others: Any
    ) -> Answer:
        with _known(), needs("The index"):
            row = act(self._backends.index, id, action, function, who, **others)
        self._dispatcher.nudge()
        return told(row)


@contextlib.contextmanager
def _known() -> Iterator[None]:
    try:
        yield
    except UnknownJobError as error:
        raise problem(404, "resubmission", "No resubmission has that id.") from error


def _same(made: Row, asked: Row) -> Row:
    """The row that a key gives must be of the same request."""
    if made["request"] != asked["request"]:
        raise problem(422, "key", "That Idempotency-Key came with another request before; take a new one.")
    return made
