"""What a job's lanes have done, kept in the lake: a lane that starts again goes on behind it."""

from __future__ import annotations

from transforms.lake import Lake, ObjectMissingError
from transforms.replay.outcome import Tally
from transforms.replay.plans import Plan, folder

__all__ = ["Ledger", "total"]


class Ledger:
    """The confirmed outcome of one lane. Written after each commit, so it may lag behind one."""

    def __init__(self, lake: Lake, plan: Plan, lane: int) -> None:
        """The ledger of a lane of a stored plan; the lake is the plan's."""
        self._lake = lake
        self._folder = f"{folder(plan.job)}/done/{lane:02d}"
        self._last: str | None = None

    def start(self) -> tuple[Tally, bool]:
        """What is confirmed, and whether the lane was worked before.

        Raises:
            TransientError: the lake is away.
        """
        paths = sorted(path for path, _ in self._lake.list(self._folder))
        self._last = paths[-1] if paths else None
        tally = Tally() if self._last is None else Tally.from_json(bytes(self._lake.get(self._last)))
        if self._last is None:
            self.write(tally)
        return tally, bool(paths)

    def write(self, tally: Tally) -> None:
        """Keep what is confirmed by now. Raises ``TransientError`` while the lake is away."""
        path = f"{self._folder}/{tally.done:012d}.json"
        self._lake.put_new(path, tally.to_json().encode())
        if self._last is not None and self._last != path:
            self._lake.delete(self._last)
        self._last = path


def total(lake: Lake, plan: Plan) -> Tally:
    """What all lanes of a job have confirmed together. Raises ``TransientError`` as the lake does."""
    tally = Tally()
    for lane in plan.lanes:
        tally.add(_newest(lake, f"{folder(plan.job)}/done/{lane:02d}"))
    return tally


def _newest(lake: Lake, lane: str) -> Tally:
    while True:
        paths = [path for path, _ in lake.list(lane)]
        if not paths:
            return Tally()
        try:
            return Tally.from_json(bytes(lake.get(max(paths))))
        except ObjectMissingError:
            continue  # a newer one has replaced it since it was listed
