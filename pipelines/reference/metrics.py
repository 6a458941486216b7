"""The table of metrics in docs/reference/metrics.md, made from their declarations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from resubmit_api.metrics import Metrics
from transforms import metrics
from transforms.metrics.host import watch

# The client has no public way to list a metric's labels before it has a sample.
# ruff: noqa: SLF001

__all__ = ["Declared", "declared", "metrics_table"]

_UNITS = (
    ("timestamp_seconds", "seconds since 1970"),
    ("messages_per_second", "messages per second"),
    ("seconds", "seconds"),
    ("bytes", "bytes"),
    ("messages", "messages"),
    ("messages_total", "messages"),
    ("bytes_total", "bytes"),
)


@dataclass(frozen=True)
class Declared:
    """A declared metric: ``name`` in Prometheus; ``part`` lists the commands that have it."""

    name: str
    part: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def unit(self) -> str:
        """The unit, by Prometheus' convention the end of the name; otherwise it is a count."""
        return next((unit for end, unit in _UNITS if self.name.endswith(end)), "count")

    def series(self) -> set[str]:
        """The names of its series."""
        return (
            {self.name + end for end in ("_bucket", "_count", "_sum")}
            if self.kind == "histogram"
            else {self.name}
        )


def declared() -> list[Declared]:
    """Every metric by name.

    The process may serve metrics itself; the common ones are then in its registry too, and come last.
    """
    common = CollectorRegistry()
    watch("persist", [], [], common)
    parts = {"persist, index": REGISTRY, "api": Metrics().registry, "persist, index, api": common}
    assert metrics.MESSAGES in _collectors(REGISTRY)  # noqa: S101 - imported for its declarations
    named = {one.name: one for part, registry in parts.items() for one in _of(part, registry)}
    return [named[name] for name in sorted(named)]


def metrics_table() -> str:
    """The Markdown table of all metrics."""
    head = ["| Metric | Labels | Type | Unit | Of | Meaning |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *map(_row, declared())])


def _of(part: str, registry: CollectorRegistry) -> Iterator[Declared]:
    for collector in _collectors(registry):
        [metric] = collector.describe()
        name = metric.name + ("_total" if metric.type == "counter" else "")
        if name.startswith("persistor_"):
            yield Declared(name, part, metric.type, tuple(collector._labelnames), metric.documentation)


def _collectors(registry: CollectorRegistry) -> list[Any]:
    return [found for found in registry._collector_to_names if hasattr(found, "_labelnames")]


def _row(metric: Declared) -> str:
    labels = " ".join(f"`{label}`" for label in metric.labels)
    return (
        f"| `{metric.name}` | {labels} | {metric.kind} | {metric.unit} | {metric.part} | {metric.meaning} |"
    )
