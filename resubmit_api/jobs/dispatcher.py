"""Makes sure that every job is worked on, whichever replica accepted it and whatever died since."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from resubmit_api.backends import Backends
from resubmit_api.jobs.ends import Ends
from resubmit_api.jobs.gauges import watch_jobs
from resubmit_api.jobs.housekeeping import Housekeeping
from resubmit_api.jobs.inline import LOST, Inline
from resubmit_api.jobs.places import Places, Queued
from resubmit_api.jobs.planning import Planning
from resubmit_api.launchers import Launcher
from transforms.errors import ConfigurationError, PermanentError, PersistorError, TransientError
from transforms.job_row import Row
from transforms.jobs.actions import release
from transforms.jobs.leases import (
    LEASE_SECONDS,
    HeldError,
    UnknownJobError,
    change,
    has_run_out,
    held_by,
    new_owner,
    owner_prefix,
)
from transforms.jobs.rows import ENDED, at, by_command, failed, finished, waits
from transforms.replay import Report
from transforms.replay.ledger import total
from transforms.replay.plans import load_plan
from transforms.replay.report import Tally

__all__ = ["Dispatcher"]

_EVERY = 1.0
_PLANS_EVERY = 5
"""Rounds between two checks for abandoned plans."""
_AT_A_TIME = 1000
_LOST_TOO_OFTEN = 5
_RENEWED_EVERY = 2.0
_GAUGES_EVERY = 5.0
_SHARE = 100
"""Who lists all jobs waits this many times the CPU time that took: with many jobs, less often."""
_SLOW = 5.0
"""Seconds without an answer from the index after which leases are not trusted."""
_CLOSED_WITHIN = 10.0
"""Seconds; threads that wait longer for an unreachable index or launcher end with the process."""
_log = logging.getLogger(__name__)


class Dispatcher:
    """One per replica; each second it takes over jobs whose lease is free or has expired."""

    def __init__(
        self,
        backends: Backends,
        launcher: Launcher,
        ends: Ends,
        inline: Inline,
        planning: Planning,
    ) -> None:
        self._backends, self._launcher, self._ends = backends, launcher, ends
        self._inline, self._planning = inline, planning
        self._housekeeping = Housekeeping(backends)
        settings = backends.settings
        self._places = Places(settings.jobs_per_destination, settings.jobs_at_once)
        self.queued: Mapping[str, Queued] = {}
        """The jobs that waited for a place at the last check, by id."""
        self._rounds = 0
        self._away, self._leases_valid_from = False, 0.0
        self._closing, self._nudged = threading.Event(), threading.Event()
        self._leaving = threading.Event()
        self._loops: list[threading.Thread] = []
        self._starting: dict[str, str] = {}

    def start(self) -> None:
        """Start its threads."""
        works = (
            (self._dispatch, _EVERY),
            (self._inline.renew, _RENEWED_EVERY),
            (self._hold_starting, _RENEWED_EVERY),
            (self._housekeeping.run, 3600.0),
            (self._update_gauges, _GAUGES_EVERY),
            (self._ends.run, _EVERY),
        )
        self._loops = [threading.Thread(target=self._repeat, args=work, daemon=True) for work in works]
        for loop in self._loops:
            loop.start()

    def leave(self) -> None:
        """Take up no more: the service is about to end, and its jobs may be ending with it."""
        self._leaving.set()

    def nudge(self) -> None:
        """Check at once, because something is new."""
        self._nudged.set()

    def close(self) -> None:
        """Stop, and stop using the index; jobs in their own processes continue."""
        self._closing.set()
        self._nudged.set()
        until = time.monotonic() + _CLOSED_WITHIN
        for loop in self._loops:
            loop.join(max(0.0, until - time.monotonic()))
        self._places.wait_until_empty(until)

    def _repeat(self, work: Callable[[], None], every: float) -> None:
        away = False
        while not self._closing.is_set():
            began = time.thread_time()
            try:
                work()
                away = False
            except PersistorError as error:
                if not away:
                    _log.warning("Jobs are waiting for the index or a lake: %s", error)
                away = True
            except Exception:  # noqa: BLE001 - if this thread ended, every job would be left unattended
                _log.exception("Checking the jobs failed; it is repeated.")
            pause = every
            if work in (self._dispatch, self._update_gauges):  # no lease waits for these
                pause = max(every, _SHARE * (time.thread_time() - began))
            if work == self._dispatch:
                self._nudged.wait(pause)
                self._nudged.clear()
            else:
                self._closing.wait(pause)

    def _dispatch(self) -> None:
        if self._leaving.is_set():
            return
        self._rounds += 1
        line, queued = Counter[str](), dict[str, Queued]()
        for row in self._unattended("RUNNING", "CANCELLING"):
            try:
                reason = self._take_up(row)
            except PermanentError as error:
                self._fail(row, str(error))
                continue
            if reason is not None:
                line[row["destination"]] += 1
                queued[row["id"]] = Queued(line[row["destination"]], reason)
        self.queued = queued
        if self._rounds % _PLANS_EVERY == 0:
            for row in self._unattended("PLANNED"):
                if row["plan"] is None:
                    self._planning.begin(row)

    def _unattended(self, *states: str) -> list[Row]:
        """Jobs that nobody works on, oldest first."""
        found, before = list[Row](), None
        while rows := self._page(before, states):
            leases_valid = time.monotonic() >= self._leases_valid_from
            # All are looked at in each round: a lease expires by not changing.
            expired = [has_run_out(row) for row in rows]
            found += [
                row
                for row, out in zip(rows, expired, strict=True)
                if row["lease"] is None or (leases_valid and out)
            ]
            before = rows[-1]["id"]
        return found[::-1]

    def _page(self, before: str | None, states: Sequence[str]) -> list[Row]:
        """Jobs before ``before``, newest first."""
        asked, away, self._away = time.monotonic(), self._away, True
        rows = self._backends.index.list_jobs(_AT_A_TIME, before, states)
        now, self._away = time.monotonic(), False
        if away or now - asked > _SLOW:
            # While the index was unreachable nobody could renew a lease: give all holders time to do so.
            self._leases_valid_from = now + LEASE_SECONDS
        return rows

    def _take_up(self, row: Row) -> str | None:
        """Work on a job; what it waits for, where it is queued."""
        if row["state"] == "CANCELLING":
            self._settle(row)
        elif row["mode"] == "inline":
            self._fail(row, LOST)
        elif by_command(row):
            self._fail(row, f"Its process is gone; continue with persistor resubmit `resume: {row['id']}`.")
        elif row["attempts"] >= _LOST_TOO_OFTEN:
            why = row["reason"] or "It was killed, or its machine failed."
            self._fail(row, f"Its process was lost {_LOST_TOO_OFTEN} times without progress. {why}")
        elif (reason := self._places.take(row)) is not None:
            return reason
        else:
            threading.Thread(target=self._work, args=(row["id"],), name=row["id"], daemon=True).start()
        return None

    def _fail(self, row: Row, reason: str) -> None:
        self._end(row["id"], lambda row: failed(row, reason))

    def _settle(self, row: Row) -> None:
        """End a CANCELLING job that nobody works on."""
        lake = self._backends.lakes[0]
        ending: Callable[[Row], Row] = _cancelled
        done = Tally()
        with contextlib.suppress(ConfigurationError):
            report = Report(job=row["id"], destination=row["topic"], planned=row["progress"]["planned"])
            done = total(lake, load_plan(lake, row["id"]))
            report.settle(done, done, 0.0)
            ending = partial(finished, report=report) if report.planned else _cancelled
        self._end(row["id"], ending)
        if not done.done and not row["progress"]["published"]:
            self._housekeeping.remove(row["id"])
        elif not by_command(row):
            # The destination may not answer, and all other jobs wait for this thread.
            threading.Thread(target=self._housekeeping.forget_lanes, args=(row,), daemon=True).start()

    def _end(self, id: str, function: Callable[[Row], Row]) -> None:
        """End a job that nobody holds."""

        def ended(row: Row) -> Row:
            if not has_run_out(row) or row["state"] not in {"RUNNING", "CANCELLING"}:
                raise HeldError("somebody was quicker")
            return function(row)

        try:
            row = change(self._backends.index, id, ended)
        except HeldError:
            return
        if row["state"] in ENDED:
            self._ends.ended(row)
        release(self._backends.index, row)

    # A job in its own process.

    def _work(self, id: str) -> None:
        # A unique name per launch, so that leftovers of the one before are not mistaken for this one's.
        owner = new_owner()
        try:
            row = change(self._backends.index, id, partial(_for_launch, owner=owner))
            run = self._start(row, owner)
            self._watch(id, run, owner)
        except (HeldError, UnknownJobError):
            return  # another replica was quicker, or the index was created anew
        except ConfigurationError as error:
            change(self._backends.index, id, partial(_failed_by, owner=owner, reason=str(error)))
        except TransientError as error:
            _log.warning("Job %s is waiting: %s", id, error)
        finally:
            self._places.leave(id)
            self.nudge()

    def _start(self, row: Row, owner: str) -> dict[str, Any]:
        """Start a job; an unreachable launcher costs no attempt and is tried again when the lease ends."""
        self._starting[owner] = row["id"]
        try:
            return self._launcher.start(row["id"], self._settings(row))
        except TransientError as error:
            change(self._backends.index, row["id"], partial(_not_started, owner=owner, trouble=str(error)))
            raise
        finally:
            del self._starting[owner]

    def _hold_starting(self) -> None:
        """Hold jobs that are still being launched, so that nobody else starts them."""
        for owner, id in list(self._starting.items()):
            with contextlib.suppress(UnknownJobError):
                change(self._backends.index, id, partial(_renewed, owner=owner))

    def _update_gauges(self) -> None:
        watch_jobs(self._backends.index, self._ends.metrics)

    def _settings(self, row: Row) -> dict[str, Any]:
        settings = self._backends.settings
        url, config = self._backends.publishers.address(row["destination"], row["topic"])
        return {
            "index": settings.index,
            "lake": list(settings.lakes),
            "lake_config": dict(settings.lake_config),
            "destination": url,
            "destination_config": dict(config),
            "resume": row["id"],
        }

    def _watch(self, id: str, run: dict[str, Any], owner: str) -> None:
        """Hold the job until its process holds it itself, and notice its end."""
        words: str | None = None
        while words is None and not self._closing.is_set():
            try:
                self._places.mark(change(self._backends.index, id, partial(_renewed, owner=owner, run=run)))
            except TransientError as error:
                _log.warning("Cannot renew the lease of job %s: %s", id, error)
            words = self._launcher.wait(run, _RENEWED_EVERY)
        if words is not None:
            row = change(self._backends.index, id, partial(_ended_process, owner=owner, run=run, words=words))
            if row["state"] in ENDED:
                self._ends.ended(row)


def _cancelled(row: Row) -> Row:
    # Without figures nothing was planned, so nothing was sent.
    gone = "It was cancelled. Its plan is missing from the lake, so the number of sent messages is unknown."
    reason = gone if row["progress"]["planned"] else "It was cancelled before anything was sent."
    return {**row, "state": "CANCELLED", "reason": reason, "finished": at(), "lease": None}


def _for_launch(row: Row, owner: str) -> Row:
    if not has_run_out(row) or row["state"] != "RUNNING":
        raise HeldError("somebody was quicker")
    return held_by({**row, "attempts": row["attempts"] + 1, "run": None}, owner, launching=True)


def _not_started(row: Row, owner: str, trouble: str) -> Row:
    return waits({**row, "attempts": max(row["attempts"] - 1, 0)}, trouble) if _is_of(row, owner) else row


def _renewed(row: Row, owner: str, run: Mapping[str, Any] | None = None) -> Row:
    """Held for a process that is being started; ``run`` finds it again once it is known."""
    if not _is_of(row, owner):
        return row
    return held_by({**row, "run": run or row["run"]}, owner, launching=True)


def _ended_process(row: Row, owner: str, run: dict[str, Any], words: str) -> Row:
    """Free a job at once if its process ended without releasing it."""
    if not _is_of(row, owner) and not _is_of(row, owner_prefix(run["host"], run["pid"])):
        return row
    return {**row, "lease": None, "reason": words or row["reason"]}


def _failed_by(row: Row, owner: str, reason: str) -> Row:
    return failed(row, reason) if _is_of(row, owner) else row


def _is_of(row: Row, owner: str) -> bool:
    return row["lease"] is not None and str(row["lease"]["owner"]).startswith(owner)
