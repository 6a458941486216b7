"""The ledger in the lake: the confirmed progress of a job's lanes, where a restarted lane continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from transforms.lake import Lake, ObjectMissingError
from transforms.replay.failed_rows import FailedRows
from transforms.replay.plans import Plan, folder
from transforms.replay.report import Tally

__all__ = ["Ledger", "Progress", "Totals", "progress", "total"]

_LEFT = ".left.json"
"""Sorts after the same figures of a lane in progress."""
_LATEST = 10**19 - 1
_READS_AT_A_TIME = 8


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

    def write(
        self, tally: Tally, failed: pa.Table | None = None, first: int = 0, next_us: int | None = None
    ) -> None:
        """Store the confirmed outcome.

        Args:
            tally: all of it.
            failed: rows since the last call that were not published.
            first: the first row of the lane since the last call.
            next_us: publish time of the next message in µs, or an earlier one that was sent; None if it is
                not known.

        Raises:
            TransientError: the lake does not answer; call again.
        """
        if failed is not None:
            self._failed.keep(first, failed)
        # Its time is in the name, so that one list says how far all lanes are.
        time = f"-{min(max(next_us, 0), _LATEST):019d}" if next_us is not None else ""
        self._put(f"{self._folder}/{tally.done:012d}{time}.json", tally.to_json().encode())

    def leave(self) -> None:
        """Record that nothing is unconfirmed. Raises ``TransientError`` if the lake does not answer."""
        if self._last is not None and not self._last.endswith(_LEFT):
            self._put(self._last.removesuffix(".json") + _LEFT, bytes(self._lake.get(self._last)))

    def _put(self, path: str, data: bytes) -> None:
        if path == self._last:
            return
        self._lake.put_new(path, data)
        if self._last is not None:
            self._lake.delete(self._last)
        self._last = path


@dataclass(frozen=True)
class Progress:
    """How far a lane is, as the name of its newest ledger says.

    Attributes:
        path: of the ledger.
        done: rows that are confirmed.
        next_us: publish time of the next message in µs, or an earlier one that was sent; None if it is not
            known.
        left: whether nobody works on the lane.
    """

    path: str
    done: int
    next_us: int | None
    left: bool


def progress(lake: Lake, job: str) -> dict[int, Progress]:
    """How far each lane is that was begun, asked with one list of the lake.

    Raises:
        TransientError: the lake does not answer.
    """
    newest: dict[int, str] = {}
    for path, _ in lake.list(f"{folder(job)}/done"):
        lane = int(path.rpartition("/")[0].rpartition("/")[2])
        newest[lane] = max(path, newest.get(lane, ""))
    return {lane: _progress(path) for lane, path in newest.items()}


def _progress(path: str) -> Progress:
    name = path.rpartition("/")[2].removesuffix(".json")
    done, _, time = name.removesuffix(_LEFT.removesuffix(".json")).partition("-")
    return Progress(path, int(done), int(time) if time else None, path.endswith(_LEFT))


class Totals:
    """The confirmed outcome of all lanes of a job; remembers that of lanes that have not moved."""

    def __init__(self, lake: Lake, plan: Plan) -> None:
        """Read the ledgers of a plan's lanes."""
        self._lake, self._plan = lake, plan
        self._known: dict[str, Tally] = {}

    def read(self) -> Tally:
        """One list, and one read per lane that has moved.

        ``last_publish_time_us`` is the lowest of the lanes that are not done: all older messages are sent.

        Raises:
            PermanentError: a stored outcome is damaged.
            TransientError: the lake does not answer.
        """
        while True:
            found = progress(self._lake, self._plan.job)
            moved = [one.path for one in found.values() if one.path not in self._known]
            try:
                self._remember(found, moved)
            except ObjectMissingError:
                continue  # a newer one replaced it after it was listed
            return self._added(found)

    def _remember(self, found: Mapping[int, Progress], moved: Sequence[str]) -> None:
        read = lambda path: Tally.from_json(self._lake.get(path), self._lake.location(path))  # noqa: E731
        with ThreadPoolExecutor(_READS_AT_A_TIME) as threads:
            new = dict(zip(moved, threads.map(read, moved), strict=True))
        known = self._known | new
        self._known = {one.path: known[one.path] for one in found.values()}

    def _added(self, found: Mapping[int, Progress]) -> Tally:
        tally, times = Tally(), list[int | None]()
        for lane, one in found.items():
            tally.add(self._known[one.path])
            if one.done < self._plan.lanes[lane]:
                times.append(self._known[one.path].last_publish_time_us)
        if times and tally.done:
            oldest = self._plan.oldest_us if len(found) < len(self._plan.lanes) else None
            tally.last_publish_time_us = min((t for t in (*times, oldest) if t is not None), default=None)
        return tally


def total(lake: Lake, plan: Plan) -> Tally:
    """The confirmed outcome of all lanes of a job, see :meth:`Totals.read`."""
    return Totals(lake, plan).read()


def _newest(lake: Lake, lane: str) -> tuple[str | None, Tally]:
    while True:
        newest = max((path for path, _ in lake.list(lane)), default=None)
        if newest is None:
            return None, Tally()
        try:
            return newest, Tally.from_json(lake.get(newest), lake.location(newest))
        except ObjectMissingError:
            continue  # a newer one replaced it after it was listed
