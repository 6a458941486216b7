"""Beam's counters say what Prometheus' counters say."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import apache_beam as beam
import prometheus_client
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from tests._messages import row, table, with_checksums
from transforms import metrics
from transforms.index_entries import IndexEntries
from transforms.metrics.beam import report
from transforms.model import Batch, Layout
from transforms.write_files import WriteFiles

_COUNTERS = [value for value in vars(metrics).values() if isinstance(value, prometheus_client.Counter)]


def _prometheus() -> dict[str, float]:
    """The sums of all counters over their labels, by the names they have in Beam."""
    sums: dict[str, float] = defaultdict(float)
    for counter in _COUNTERS:
        for family in counter.collect():
            sums[family.name.removeprefix("persistor_")] += sum(
                sample.value for sample in family.samples if sample.name.endswith("_total")
            )
    return sums


def _beam(result: beam.runners.runner.PipelineResult) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for counter in result.metrics().query()["counters"]:
        if counter.key.metric.namespace == "persistor":
            sums[counter.key.metric.name] += counter.committed
    return dict(sums)


@pytest.fixture
def before() -> dict[str, float]:
    metrics.unreported()
    return _prometheus()


def _added(before: dict[str, float]) -> dict[str, int]:
    after = _prometheus()
    return {name: int(after[name] - before[name]) for name in after if after[name] != before[name]}


class _CountAll(beam.DoFn):
    def process(self, amount: int) -> None:
        for counter in _COUNTERS:
            labels = [f"{name} {amount}" for name in counter._labelnames]
            counter.labels(*labels).inc(amount)

    def finish_bundle(self) -> None:
        report()


def test_every_counter_exists_in_beam_with_the_same_sum(before: dict[str, float]) -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    _ = pipeline | beam.Create([1, 5]) | beam.ParDo(_CountAll())
    result = pipeline.run()
    result.wait_until_finish()
    assert _beam(result) == _added(before)
    assert set(_beam(result).values()) == {6}
    assert {"messages", "bytes", "dead_letters", "retries", "gap_messages", "conflicts"} < _beam(
        result
    ).keys()


def test_what_is_written_and_indexed_on_other_threads_is_counted_in_beam(
    before: dict[str, float], tmp_path: Path
) -> None:
    messages = with_checksums(table(*[row(id=f"orders_0_{n}", offset=n, data=b"four") for n in range(20)]))
    batch = Batch("orders", 1, 0, messages, "orders-0", Layout("{topic}"), "count")
    pipeline = beam.Pipeline(runner=FnApiRunner())
    files = pipeline | beam.Create([batch], reshuffle=False) | WriteFiles(f"file://{tmp_path}/lake")
    _ = files.written | IndexEntries(f"sqlite://{tmp_path}/index.db")
    result = pipeline.run()
    result.wait_until_finish()
    assert _beam(result) == _added(before)
    assert {name: _beam(result)[name] for name in ("messages", "files", "indexed")} == {
        "messages": 20,
        "files": 1,
        "indexed": 20,
    }
