"""The places of a replica: how many jobs it runs at a time, per destination and in all."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass

from transforms.job_row import Row

__all__ = ["Places", "Queued", "works"]


@dataclass(frozen=True)
class Queued:
    """Where a job stands.

    Attributes:
        place: its place among the jobs that wait for the same destination; 1 is next.
        reason: what it waits for.
    """

    place: int
    reason: str


class Places:
    """Counts the jobs that this replica runs; thread-safe.

    A job that waits for a server, or has a rate limit of its own, takes no place at its destination. A
    destination without any job may always begin one, so no destination delays another.
    """

    def __init__(self, per_destination: int, at_once: int) -> None:
        """Allow ``per_destination`` jobs that work to each destination, and ``at_once`` processes."""
        self._per_destination, self._at_once = per_destination, at_once
        self._changed = threading.Condition()
        self._running: dict[str, str] = {}
        self._working: dict[str, str] = {}

    def take(self, row: Row) -> str | None:
        """Take a place; the reason if there is none.

        Unless its rate is limited, a job counts as working until :meth:`mark` says otherwise.
        """
        with self._changed:
            id, to = row["id"], row["destination"]
            working, running = Counter(self._working.values()), Counter(self._running.values())
            limited = any(row["rate"].values())
            if working[to] >= self._per_destination and not limited:
                return f"Destination {to} has no free place (jobs at a time: {self._per_destination})."
            if running[to] and running.total() >= self._at_once:
                return f"The service has no free place (jobs at a time: {self._at_once})."
            self._running[id] = to
            self._mark(id, not limited)
            return None

    def mark(self, row: Row) -> None:
        """Say how a job goes that has a place."""
        with self._changed:
            self._mark(row["id"], works(row))

    def leave(self, id: str) -> None:
        """Give a place back."""
        with self._changed:
            self._running.pop(id, None)
            self._working.pop(id, None)
            self._changed.notify_all()

    def wait_until_empty(self, until: float) -> None:
        """Wait until no job has a place, at most until this time of the monotonic clock."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running, max(0.0, until - time.monotonic()))

    def _mark(self, id: str, working: bool) -> None:
        if working and id in self._running:
            self._working[id] = self._running[id]
        else:
            self._working.pop(id, None)


def works(row: Row) -> bool:
    """Whether a job needs its place: it sends, without a rate limit."""
    return row["reason"] is None and not any(row["rate"].values())
