"""The ledger in the lake: the confirmed progress of a job's lanes, where a restarted lane continues."""

from __future__ import annotations

import pyarrow as pa

from transforms.lake import Lake, ObjectMissingError
from transforms.replay.failed_rows import FailedRows
from transforms.replay.plans import Plan, folder
from transforms.replay.report import Tally

__all__ = ["Ledger", "total"]

_LEFT = ".left.json"
"""Sorts after the same figures of a lane in progress."""


class Ledger:
    """The confirmed outcome of one lane. Written after each commit, so it may lag one commit behind."""

    def __init__(self, lake: Lake, plan: Plan, lane: int) -> None:
        """Open the ledger of a lane in the lake of its plan."""
        self._lake = lake
        self._folder = f"{folder(plan.job)}/done/{lane:02d}"
        self._failed = FailedRows(lake, plan.job, lane)
        self._last: str | None = None

    def read(self) -> tuple[Tally, bool]:
        """The confirmed outcome, and whether the lane was started before.

        Raises:
            TransientError: the lake does not answer.
        """
        self._last, tally = _newest(self._lake, self._folder)
        return tally, self._last is not None

    def start(self) -> tuple[Tally, bool]:
        """Like :meth:`read`, but a lane left with nothing unconfirmed does not count as started.

        From now on it does. Failed rows of a commit missing in the ledger are dropped.
        """
        tally, again = self.read()
        self._failed.forget_from(tally.done)
        left = self._last is not None and self._last.endswith(_LEFT)
        if left or not again:
            self.write(tally)
        return tally, again and not left

    def write(self, tally: Tally, failed: pa.Table | None = None, first: int = 0) -> None:
        """Store the confirmed outcome.

        Args:
            tally: all of it.
            failed: rows since the last call that were not published.
            first: the first row of the lane since the last call.

        Raises:
            TransientError: the lake does not answer; call again.
        """
        if failed is not None:
            self._failed.keep(first, failed)
        self._put(f"{self._folder}/{tally.done:012d}.json", tally.to_json().encode())

    def leave(self) -> None:
        """Record that nothing is unconfirmed. Raises ``TransientError`` if the lake does not answer."""
        if self._last is not None and not self._last.endswith(_LEFT):
            self._put(self._last.removesuffix(".json") + _LEFT, bytes(self._lake.get(self._last)))

    def _put(self, path: str, data: bytes) -> None:
        self._lake.put_new(path, data)
        if self._last is not None and self._last != path:
            self._lake.delete(self._last)
        self._last = path


def total(lake: Lake, plan: Plan) -> Tally:
    """The confirmed outcome of all lanes of a job.

    Raises:
        PermanentError: a stored outcome is damaged.
        TransientError: the lake does not answer.
    """
    tally = Tally()
    for lane in plan.lanes:
        tally.add(_newest(lake, f"{folder(plan.job)}/done/{lane:02d}")[1])
    return tally


def _newest(lake: Lake, lane: str) -> tuple[str | None, Tally]:
    while True:
        newest = max((path for path, _ in lake.list(lane)), default=None)
        if newest is None:
            return None, Tally()
        try:
            return newest, Tally.from_json(lake.get(newest), lake.location(newest))
        except ObjectMissingError:
            continue  # a newer one replaced it after it was listed
