"""Beam's counters, apart from ``transforms.metrics`` so that what runs without Beam need not import it."""

from __future__ import annotations

from typing import Any

from apache_beam.metrics import Metrics

from transforms import metrics

__all__ = ["counter", "report"]


def counter(name: str) -> Any:
    """The Beam counter of a name in the namespace ``persistor``; ``inc(n)`` works inside a bundle only."""
    return Metrics.counter("persistor", name)


def report() -> None:
    """Add to Beam's counters what this process has counted for Prometheus since the last call.

    Called where a bundle ends, in its thread: what its helpers count on other threads Beam does
    not see. With several bundles at a time in a process, what one did may be reported by another.
    """
    for name, amount in metrics.unreported().items():
        counter(name).inc(amount)
