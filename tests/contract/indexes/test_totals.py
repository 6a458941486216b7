"""Counters of sources: right after inserts, repeats, removals and a kill, and made for older indexes."""

from __future__ import annotations

import contextlib

import pyarrow as pa
import pytest

from tests._entries import EPOCH, entry, stream, table
from tests.contract.indexes._rows import EVERYTHING
from transforms import registry
from transforms.errors import PermanentError
from transforms.indexes import Index, mongodb
from transforms.selection import Selection

LOCATION = "file:///lake/telemetry/gone.parquet"


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each collection were too large to be counted each time."""
    monkeypatch.setattr(mongodb, "_SUMMARIZED", -1)


def figures(index: Index, *, counted: bool) -> list[tuple[object, ...]]:
    found = index.summarize(EVERYTHING) if counted else index.totals()
    return [(one.source, one.messages, one.bytes, one.oldest, one.newest) for one in found]


def test_totals_are_what_counting_finds(index: Index) -> None:
    assert index.totals() == []
    index.insert(pa.concat_tables([stream(0, 100), stream(0, 50, "a")]))
    index.insert(table(entry("untimed", source="b", publish_time=None, size=7)))
    index.insert(table(entry("old", source="b", publish_time=EPOCH, size=7)))
    assert figures(index, counted=False) == figures(index, counted=True)


def test_repeats_are_not_counted_and_conflicts_neither(index: Index) -> None:
    index.insert(stream(0, 100))
    before = figures(index, counted=False)
    index.insert(stream(50, 100))
    with pytest.raises(PermanentError, match="already indexed"):
        index.insert(pa.concat_tables([table(entry("orders_0_0", checksum=99)), stream(200, 10)]))
    assert figures(index, counted=False) == figures(index, counted=True) != before


def test_what_is_removed_is_subtracted(index: Index) -> None:
    index.insert(stream(0, 100))
    index.insert(table(*(entry(f"x{n}", source="gone", location=LOCATION, size=5) for n in range(9))))
    assert len(index.totals()) == 2
    assert index.forget([LOCATION]) == 9
    assert figures(index, counted=False) == figures(index, counted=True)
    assert [one.source for one in index.totals()] == ["orders"]


def test_an_index_of_an_older_release_gets_its_counters(url: str) -> None:
    with contextlib.closing(registry.index(url).open(url)) as index:
        index.insert(stream(0, 100))
        forget_counters(index)
    with contextlib.closing(registry.index(url).open(url)) as index:
        index.insert(stream(100, 20))
        assert figures(index, counted=False) == figures(index, counted=True)
        index.insert(stream(120, 20))
        assert figures(index, counted=False) == figures(index, counted=True)


def forget_counters(index: Index) -> None:
    if isinstance(index, mongodb.MongoIndex):
        index._totals.collection.drop()
        return
    with index._connections.transaction() as connection:  # type: ignore[attr-defined]
        connection.execute("DROP TABLE totals")


def test_counting_ends_where_more_is_not_asked(index: Index) -> None:
    index.insert(pa.concat_tables([stream(0, 100), stream(0, 50, "a")]))
    assert index.count(EVERYTHING, 1_000) == 150
    assert index.count(EVERYTHING, 120) == 120
    assert index.count(Selection(sources=("a", "b")), 1_000) == 50
    assert index.count(Selection(ids=("orders_0_0", "a_0_0", "c")), 9) == 2
