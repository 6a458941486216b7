"""Keeps the cost of a lake at what is new: from a timer, at any time, beside everything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

from transforms.lake import Lake
from transforms.maintenance.chains import sources
from transforms.maintenance.deleting_lake import DeletingLake
from transforms.maintenance.fold import fold
from transforms.maintenance.patience import patiently
from transforms.maintenance.store_clock import refuse_other_clock
from transforms.times import microseconds

__all__ = ["Maintained", "maintain"]

Progress = Callable[[int, int, int], object]
_LEFT = timedelta(days=1)


@dataclass
class Maintained:
    """What was done.

    Attributes:
        claims: single claims that were folded.
        segments: segments that were written.
        temporary: files that kills had left on a disk before they had a name.
        notes: what an operator should know.
    """

    claims: int = 0
    segments: int = 0
    temporary: int = 0
    notes: list[str] = field(default_factory=list)

    exit_code: int = field(default=0, init=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with ``exit_code``."""
        return asdict(self)


def maintain(
    lake: Lake, age: timedelta, *, progress: Progress = lambda _done, _failed, _all: None
) -> Maintained:
    """Fold claims into segments, and remove what kills have left.

    It may be killed at any point, and run beside itself, persist, expire and everything else.

    Args:
        lake: of which claims are folded.
        age: claims that are younger stay single.
        progress: called with the claims that were folded so far.

    Raises:
        ConfigurationError: the clocks of the store and of this machine differ by more than five minutes.
        TransientError: the lake did not answer, or refused, for five minutes.
    """
    deleting, report, now = DeletingLake.of(lake), Maintained(), datetime.now(timezone.utc)
    patiently(partial(refuse_other_clock, deleting), "compare clocks")
    for source in sources(deleting):
        shown = partial(_show, progress, report.claims)
        folded = fold(deleting, source, microseconds(now - age), shown)
        report.claims += folded.claims
        report.segments += folded.segments
    report.temporary = deleting.delete_temporary(now - _LEFT)
    return report


def _show(progress: Progress, before: int, claims: int) -> None:
    progress(before + claims, 0, before + claims)
