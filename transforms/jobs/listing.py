"""Lists jobs by state, person, destination and time, for service and command alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from transforms.indexes import Index
from transforms.job_row import Row
from transforms.jobs.states import LISTED, shown_state, stored_states
from transforms.replay.plans import new_job_id
from transforms.times import iso

__all__ = ["JobFilter", "list_page", "queue_places"]

_READ, _MOST_READS = 200, 20
"""Rows read at a time, and number of reads, to fill one page."""


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are meant; None means any.

    Attributes:
        states: as they are shown.
        requested_by: who asked for it.
        destination: the configured name, or the address that the command was given.
        created_from: the earliest time of the request.
        created_to: requests before this time.
    """

    states: tuple[str, ...] = LISTED
    requested_by: str | None = None
    destination: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None

    def matches(self, row: Row) -> bool:
        """Whether a job is meant."""
        wanted = ((self.requested_by, row["requested_by"]), (self.destination, row["destination"]))
        return (
            shown_state(row) in self.states
            and all(given is None or given == found for given, found in wanted)
            and (self.created_to is None or row["created"] < (iso(self.created_to) or ""))
            and not self.is_over(row)
        )

    def is_over(self, row: Row) -> bool:
        """Whether this job, and each one before it, was asked for too early."""
        return self.created_from is not None and row["created"] < (iso(self.created_from) or "")

    @property
    def is_plain(self) -> bool:
        """Whether it is a matter of the stored state alone."""
        return self == JobFilter(self.states) and (("QUEUED" in self.states) == ("RUNNING" in self.states))


def list_page(
    index: Index,
    wanted: JobFilter,
    limit: int,
    before: str | None = None,
    may_see: Callable[[Row], bool] = lambda _: True,
) -> tuple[list[Row], str | None]:
    """A page of jobs, latest first, and the id that the next page begins behind.

    A page may be short, even empty, before the last one: a request reads at most 4,000 rows.

    Args:
        index: stores the jobs.
        wanted: which jobs.
        limit: maximum number.
        before: only jobs before this id.
        may_see: leaves out jobs that the caller may not see.

    Raises:
        TransientError: the index does not answer.
    """
    found, states = list[Row](), stored_states(wanted.states)
    before = _earlier(before, wanted.created_to)
    at_a_time = limit if wanted.is_plain else max(limit, _READ)
    for _ in range(1 if wanted.is_plain else _MOST_READS):
        rows = index.list_jobs(at_a_time, before, states)
        found += [row for row in rows if wanted.matches(row) and may_see(row)]
        if len(found) > limit:
            return found[:limit], found[limit - 1]["id"]
        if len(rows) < at_a_time or wanted.is_over(rows[-1]):
            return found, None
        before = rows[-1]["id"]
        if len(found) == limit:
            break
    return found, before


def queue_places(index: Index) -> dict[str, int]:
    """The place of each queued job among those to its destination, by id; 1 is next.

    Raises:
        TransientError: the index does not answer.
    """
    rows, before = list[Row](), None
    while page := index.list_jobs(_READ, before, ["RUNNING"]):
        rows += page
        before = page[-1]["id"]
    line, places = Counter[str](), dict[str, int]()
    for row in reversed(rows):
        if shown_state(row) == "QUEUED":
            line[row["destination"]] += 1
            places[row["id"]] = line[row["destination"]]
    return places


def _earlier(before: str | None, created_to: datetime | None) -> str | None:
    """The id that the first page begins behind; ids begin with their time."""
    if created_to is None:
        return before
    # One second later, since the row's own time decides.
    bound = new_job_id((datetime.now(timezone.utc) - created_to).total_seconds() - 1)
    return bound if before is None else min(before, bound)
