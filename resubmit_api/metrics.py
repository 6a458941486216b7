"""The service's Prometheus metrics, in a registry of their own so that two services share nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from transforms.job_row import Row
from transforms.jobs.leases import is_free
from transforms.jobs.rows import by_command
from transforms.jobs.states import shown_state

__all__ = ["Metrics", "destination_label"]

_LATENCIES = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counts requests by route and status, and resubmissions by destination.

    Attributes:
        registry: the registry of all metrics.
    """

    def __init__(self) -> None:
        # A creation time per series would double the number of series without use.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "persistor_api_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "persistor_api_request_seconds",
            "Time to respond.",
            ["method", "route"],
            buckets=_LATENCIES,
            registry=registry,
        )
        said = "Requests waiting because all threads are busy."
        self._waiting = Gauge("persistor_api_requests_waiting", said, registry=registry)
        said = "Refused requests that are missing from the audit trail, because the index did not answer."
        self._dropped = Counter("persistor_api_refusals_dropped", said, registry=registry)
        ended = ["destination", "mode", "state"]
        self._ended = Counter(
            "persistor_api_resubmissions", "Resubmissions that ended.", ended, registry=registry
        )
        said = "Messages of resubmissions that ended, by result."
        sent = ["destination", "outcome"]
        self._messages = Counter("persistor_api_resubmitted_messages", said, sent, registry=registry)
        self._open = _OpenJobs(registry)
        self._lock = threading.Lock()
        self._counted: dict[str, Mapping[str, int]] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; ``route`` is the pattern, never the path chosen by the caller."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def waiting(self, count: Callable[[], float]) -> None:
        """Read the number of waiting requests from ``count`` at each scrape."""
        self._waiting.set_function(count)

    def refusal_dropped(self) -> None:
        """Count a refused request that is not in the audit trail."""
        self._dropped.inc()

    def finished(self, row: Row) -> None:
        """Count a resubmission that ended; of a resumed one only the messages since then."""
        destination = destination_label(row)
        self._ended.labels(destination, row["mode"], row["state"]).inc()
        done = {outcome: row["progress"][outcome] for outcome in ("published", "failed")}
        before = self._counted.pop(row["id"], {})
        for outcome, count in done.items():
            self._messages.labels(destination, outcome).inc(max(0, count - before.get(outcome, 0)))
        if row["state"] == "FAILED" and row["mode"] == "job":  # it may be resumed
            self._counted[row["id"]] = done

    def jobs(self, rows: Sequence[Row], failed: Mapping[str, int]) -> None:
        """Set the open jobs, and the number of recent failures per destination."""
        self._open.rows, self._open.lately = rows, failed

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        with self._lock:
            self._open.show()
            return generate_latest(self.registry)


class _OpenJobs:
    """Gauges of jobs in the index, rebuilt at each check."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows: Sequence[Row] = ()
        self.lately: Mapping[str, int] = {}
        said = "Resubmissions that failed in the last 24 hours, without those refused, resumed or retried."
        self._failed = Gauge("persistor_resubmissions_failed", said, ["destination"], registry=registry)
        said = "Resubmissions that have not ended, by state; (command) marks those run by the command."
        by_state = ["destination", "state"]
        self._open = Gauge("persistor_resubmissions_open", said, by_state, registry=registry)
        said = "Messages of resubmissions that have not ended: published, failed, or left to send."
        self._progress = Gauge(
            "persistor_resubmissions_open_messages", said, ["destination", "outcome"], registry=registry
        )
        said = "Messages per second that resubmissions currently publish, in all processes."
        self._rate = Gauge(
            "persistor_resubmissions_messages_per_second", said, ["destination"], registry=registry
        )

    def show(self) -> None:
        for gauge in (self._failed, self._open, self._progress, self._rate):
            gauge.clear()
        for destination, count in self.lately.items():
            self._failed.labels(destination).set(count)
        for row in self.rows:
            self._show(row)

    def _show(self, row: Row) -> None:
        destination, progress = destination_label(row), row["progress"]
        left = progress["planned"] - progress["published"] - progress["failed"]
        self._open.labels(destination, shown_state(row)).inc()
        counts = {"published": progress["published"], "failed": progress["failed"], "left": left}
        for outcome, count in counts.items():
            self._progress.labels(destination, outcome).inc(count)
        # A job that nobody works on publishes nothing, whatever rate it reported last.
        self._rate.labels(destination).inc(0.0 if is_free(row) else progress.get("rate") or 0.0)


def destination_label(row: Row) -> str:
    """The configured name, or (command) for addresses given to the command, whose number is unbounded."""
    return "(command)" if by_command(row) else str(row["destination"])
