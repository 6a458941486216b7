"""Stored plans: made by a thread, frozen in the lake, run later or never."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import Future
from functools import partial

from resubmit_api.backends import Backends
from transforms.brokers import Destination
from transforms.errors import ConfigurationError, PermanentError, TransientError
from transforms.job_row import Row
from transforms.jobs.approval import check_fingerprint
from transforms.jobs.keeper import Keeper, StoppedError
from transforms.jobs.leases import HeldError
from transforms.jobs.planning_index import interruptible
from transforms.jobs.rows import by_command, failed, options_of, planned, selection_of
from transforms.replay import LookUp, Plan, check_rest, check_retry, make_plan
from transforms.replay.fingerprint import fingerprint
from transforms.replay.plans import load_plan
from transforms.replay.routing import is_pattern
from transforms.retry import retry

__all__ = ["Planning"]

_AT_ONCE = 4
_GIVE_UP_AFTER = 600.0
_LOST_TOO_OFTEN = 5
_CHECKED_AT_ONCE = 10
_CLOSED_WITHIN = 5.0
"""Seconds to wait at the end; a plan that takes longer ends with the process."""


class Planning:
    """Makes the plans of rows in state PLANNED; thread-safe."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        self._closing = threading.Event()

    def begin(self, row: Row) -> Future[Row] | None:
        """Start planning, unless too many plans are being made; then the next check starts it.

        Returns:
            The row once it has its plan, or has failed.
        """
        if not self._places.acquire(blocking=False):
            return None
        future: Future[Row] = Future()
        threading.Thread(target=self._run, args=(row["id"], future), name=row["id"], daemon=True).start()
        return future

    def close(self) -> None:
        """Stop; unfinished plans are made by another replica or the next process."""
        self._closing.set()
        until = time.monotonic() + _CLOSED_WITHIN
        for _ in range(_AT_ONCE):
            self._places.acquire(timeout=max(0.0, until - time.monotonic()))

    def look_up(self, name: str, topic: str) -> Destination | LookUp:
        """The properties of a destination topic; for a pattern, a function that looks them up.

        Raises:
            ConfigurationError: the destination or topic does not exist.
            TransientError: it does not answer.
        """
        if is_pattern(topic):
            self._backends.publishers.address(name, topic)
            return lambda topic: self._one(name, topic)
        return self._one(name, topic)

    def check_retry(self, row: Row) -> None:
        """Refuse a retry that the destination would refuse now, as a plan does.

        Raises:
            ConfigurationError: lists all problems.
            TransientError: the destination or the lake does not answer.
        """
        look_up = partial(self._one, row["destination"])
        if row["mode"] == "inline":  # planned again where it is sent
            look_up(row["topic"])
            return
        try:
            problems = check_retry(self._backends.lakes[0], row["id"], look_up)
        except PermanentError as error:
            raise ConfigurationError(str(error)) from error
        if problems:
            raise ConfigurationError(problems)

    def check_run(self, row: Row) -> None:
        """Refuse to run a plan that its destination would refuse by now.

        A plan of many topics is checked by its job alone, which need not answer at once.

        Raises:
            ConfigurationError: with all its problems.
            TransientError: the destination or a lake is away.
        """
        lakes = self._backends.lakes
        try:
            plan = load_plan(lakes[0], row["id"])
        except ConfigurationError as error:  # says where the lake is, which callers need not know
            raise ConfigurationError("The plan is missing from the lake: make a new plan.") from error
        check_fingerprint(lakes[0], row)
        if len(plan.topics) > _CHECKED_AT_ONCE:
            return
        if problems := check_rest(plan, lakes, partial(self._one, row["destination"])):
            raise ConfigurationError(problems)

    def _one(self, name: str, topic: str) -> Destination:
        with self._backends.publishers.lend(name, topic) as lent:
            return lent.destination

    def _run(self, id: str, future: Future[Row]) -> None:
        try:
            self._make(id)
            future.set_result(self._made(id))
        except (TransientError, PermanentError) as error:
            future.set_exception(error)
        finally:
            self._places.release()

    def _made(self, id: str) -> Row:
        row = self._backends.index.get_job(id)
        if row is None:
            raise PermanentError(f"job {id} is gone: the index was created again")
        return row

    def _make(self, id: str) -> None:
        """Make and store the plan; errors go into the row, because nobody else waits for them."""
        keeper = Keeper(self._backends.index, self._backends.lakes[0], id, on_lost=lambda: None)
        # No longer needed, another replica was quicker, or the keeper updated the row.
        with contextlib.suppress(HeldError, ConfigurationError, StoppedError):
            row = keeper.take(_counted)
            with keeper:
                plan = self._patiently(row, keeper) if row["state"] == "PLANNED" else None
                approved = None if plan is None or plan.problems else self._fingerprint(row)
                keeper.give_back(lambda row: row if plan is None else _planned(row, plan, approved))

    def _fingerprint(self, row: Row) -> str | None:
        """What an approval is bound to, where one is needed: the plan in the lake, and no other."""
        if "approval" not in row:
            return None
        what, lake = f"read plan {row['id']}", self._backends.lakes[0]
        stopped = self._closing.is_set
        return retry(
            lambda: fingerprint(lake, row["id"]), what, give_up_after=_GIVE_UP_AFTER, stopped=stopped
        )

    def _patiently(self, row: Row, keeper: Keeper) -> Plan:
        what = f"plan {row['id']}"
        stopped = self._closing.is_set
        return retry(lambda: self._plan(row, keeper), what, give_up_after=_GIVE_UP_AFTER, stopped=stopped)

    def _plan(self, row: Row, keeper: Keeper) -> Plan:
        url, _ = self._backends.publishers.address(row["destination"], row["topic"])
        return make_plan(
            interruptible(self._backends.index, lambda: keeper.check(stopping=self._closing.is_set())),
            self._backends.lakes,
            selection_of(row),
            url=url,
            destination=self.look_up(row["destination"], row["topic"]),
            options=options_of(row),
            job=row["id"],
        )


def _planned(row: Row, plan: Plan, shown: str | None) -> Row:
    made: Row = {**planned(row, plan), "attempts": 0}
    return made if shown is None else {**made, "approval": {**made["approval"], "plan": shown}}


def _counted(row: Row) -> Row:
    if by_command(row):
        return failed(row, "Its process is gone; plan again.")
    if row["attempts"] >= _LOST_TOO_OFTEN:
        return failed(row, f"Its planning was lost {_LOST_TOO_OFTEN} times.")
    return {**row, "attempts": row["attempts"] + 1}
