"""Removes plans that were not run, and the files of old jobs from the lake."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from resubmit_api.backends import Backends
from transforms.errors import ConfigurationError, PersistorError
from transforms.job_row import Row
from transforms.jobs.leases import change, is_free
from transforms.jobs.rows import ENDED, at
from transforms.jobs.states import WrongStateError
from transforms.replay import delete_plan
from transforms.replay.abandoned import forget_lanes
from transforms.replay.plans import load_plan, new_job_id

__all__ = ["Housekeeping"]

_log = logging.getLogger(__name__)
_DAY = 86_400.0
_PLANS_KEPT = _DAY
_ENDED_KEPT = 30 * _DAY
_PAGE = 200


class Housekeeping:
    """Run regularly by every replica; concurrent runs do no harm."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def run(self) -> None:
        """Remove what is due. Raises ``TransientError`` if the index or the lake does not answer."""
        index = self._backends.index
        for row in self._pages(("PLANNED",), None):
            if row["created"] < at(-_PLANS_KEPT) and is_free(row):
                self._forget(row["id"])
        for row in self._pages(tuple(ENDED), new_job_id(_ENDED_KEPT)):
            # A failed plan is removed at once; the lake may hold parts of it.
            if (row["cleared"] or "") <= (row["finished"] or "") < at(-_ENDED_KEPT):
                self.remove(row["id"])
                change(index, row["id"], lambda row: {**row, "cleared": at()})

    def remove(self, id: str) -> None:
        """Delete the files of a job from the lake. Raises ``TransientError`` if it does not answer."""
        delete_plan(self._backends.lakes[0], id)

    def forget_lanes(self, row: Row) -> None:
        """Delete what a cancelled job keeps at its destination; if that does not answer, it stays there."""
        try:
            plan = load_plan(self._backends.lakes[0], row["id"])
            _, config = self._backends.publishers.address(row["destination"], row["topic"])
            forget_lanes(plan, self._backends.lakes[0], config)
        except PersistorError as error:
            _log.warning("The progress of job %s stays at its destination: %s", row["id"], error)

    def _forget(self, id: str) -> None:
        def forgotten(row: Row) -> Row:
            if row["state"] != "PLANNED" or not is_free(row):
                raise WrongStateError(row, "cancel")
            why = "The plan was not run within a day."
            return {**row, "state": "CANCELLED", "reason": why, "finished": at(), "cleared": at()}

        try:
            change(self._backends.index, id, forgotten)
        except (WrongStateError, ConfigurationError):
            return
        self.remove(id)

    def _pages(self, states: tuple[str, ...], before: str | None) -> Iterator[Row]:
        while rows := self._backends.index.list_jobs(_PAGE, before, states):
            yield from rows
            before = rows[-1]["id"]
