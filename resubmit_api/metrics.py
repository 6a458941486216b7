"""What the service tells Prometheus; a registry of its own, so that two services share nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

__all__ = ["Metrics"]

_LATENCIES = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Requests by route and status, resubmissions by destination.

    Attributes:
        registry: where they are entered.
    """

    def __init__(self) -> None:
        # A creation time beside each series would double what is stored for nothing.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "persistor_api_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "persistor_api_request_seconds",
            "Time to answer.",
            ["method", "route"],
            buckets=_LATENCIES,
            registry=registry,
        )
        ended = ["destination", "mode", "state"]
        self._ended = Counter(
            "persistor_api_resubmissions", "Resubmissions that ended.", ended, registry=registry
        )
        said = "Messages of resubmissions that ended, by what became of them."
        sent = ["destination", "outcome"]
        self._messages = Counter("persistor_api_resubmitted_messages", said, sent, registry=registry)
        said = "Resubmissions that failed within a day, less those refused, resumed or tried again."
        self._failed = Gauge("persistor_resubmissions_failed", said, ["destination"], registry=registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; ``route`` is the pattern, never the path, which callers choose."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def finished(self, row: Mapping[str, Any]) -> None:
        """Count a resubmission that ended."""
        destination = row["destination"]
        self._ended.labels(destination, row["mode"], row["state"]).inc()
        for outcome in ("published", "failed"):
            self._messages.labels(destination, outcome).inc(row["progress"][outcome])

    def failures(self, destinations: Mapping[str, int]) -> None:
        """Note how many resubmissions to each destination failed lately; the others are not shown."""
        self._failed.clear()
        for destination, count in destinations.items():
            self._failed.labels(destination).set(count)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
