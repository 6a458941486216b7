"""Beam's counters, apart from ``transforms.metrics`` so that what runs without Beam need not import it."""

from __future__ import annotations

from typing import Any

from apache_beam.metrics import Metrics

__all__ = ["counter"]


def counter(name: str) -> Any:
    """The Beam counter of a name in the namespace ``persistor``; ``inc(n)`` works inside a bundle only."""
    return Metrics.counter("persistor", name)
