"""Beam's counters, separate from ``transforms.metrics`` so that code without Beam need not import it."""

from __future__ import annotations

from typing import Any

from apache_beam.metrics import Metrics

from transforms import metrics

__all__ = ["counter", "report"]


def counter(name: str) -> Any:
    """The Beam counter of a name in namespace ``persistor``; ``inc(n)`` works only inside a bundle."""
    return Metrics.counter("persistor", name)


def report() -> None:
    """Add this process's Prometheus counts since the last call to Beam's counters.

    Call it at the end of a bundle, in the bundle's thread, because Beam does not see counts from other
    threads. With concurrent bundles in a process, one may report the counts of another.
    """
    for name, amount in metrics.unreported().items():
        counter(name).inc(amount)
