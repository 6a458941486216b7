"""What Prometheus is told of the jobs in the index, wherever they are worked on."""

from __future__ import annotations

from collections import Counter

from resubmit_api.metrics import Metrics, destination_label
from transforms.indexes import Index
from transforms.job_row import Row
from transforms.jobs.rows import at

__all__ = ["watch_jobs"]

_OPEN = ("RUNNING", "PAUSED", "CANCELLING")
_LATELY = 86400.0
_MOST = 1000


def watch_jobs(index: Index, metrics: Metrics) -> None:
    """Note which jobs have not ended, and which failed lately.

    Beside the requests for metrics: an index that hangs must not keep those waiting.

    Raises:
        TransientError: the index is away; what was noted last stands.
    """
    since = at(-_LATELY)
    failed = index.list_jobs(_MOST, states=["FAILED"])
    lately = Counter(
        destination_label(row) for row in failed if (row["finished"] or "") > since and _concerns(row)
    )
    metrics.jobs(index.list_jobs(_MOST, states=_OPEN), lately)


def _concerns(row: Row) -> bool:
    """Whether somebody must look at what failed; who asked for what cannot be was told so then."""
    # One that is sent inline has its plan only when all of it is dealt with.
    may_have_sent = row["plan"] or (row["mode"] == "inline" and not row.get("refused"))
    return bool(may_have_sent) and not row["retried_by"]
