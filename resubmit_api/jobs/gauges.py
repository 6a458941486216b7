"""Gauges of all jobs in the index, wherever they are worked on."""

from __future__ import annotations

from collections import Counter

from resubmit_api.metrics import Metrics, destination_label
from transforms.indexes import Index
from transforms.job_row import Row
from transforms.jobs.rows import at

__all__ = ["watch_jobs"]

_OPEN = ("RUNNING", "PAUSED", "CANCELLING")
_RECENT = 86400.0
_MOST = 1000


def watch_jobs(index: Index, metrics: Metrics) -> None:
    """Update the gauges of open jobs and of recent failures.

    Not part of a metrics request, because an unresponsive index must not delay those.

    Raises:
        TransientError: the index does not answer; the last values stay.
    """
    since = at(-_RECENT)
    failed = index.list_jobs(_MOST, states=["FAILED"])
    lately = Counter(
        destination_label(row) for row in failed if (row["finished"] or "") > since and _concerns(row)
    )
    metrics.jobs(index.list_jobs(_MOST, states=_OPEN), lately)


def _concerns(row: Row) -> bool:
    """Whether a failed job needs attention; a refused request was already reported to its caller."""
    # An inline job has its plan only after all its messages are handled.
    may_have_sent = row["plan"] or (row["mode"] == "inline" and not row.get("refused"))
    return bool(may_have_sent) and not row["retried_by"]
