"""What every index store must do to find entries: order, pages, sums, counts."""

from __future__ import annotations

import itertools
import threading
from datetime import timedelta

import pyarrow as pa

from tests._entries import EPOCH, NOON, entry, stream, table
from tests.contract.indexes._rows import EVERYTHING, ids, in_order, pages, rows
from transforms.indexes import Index, SourceSummary
from transforms.selection import Selection, parse_selection


class TestFinding:
    def test_sources_are_sorted_and_given_once(self, index: Index) -> None:
        for source in ("b", "é", "a", "B"):
            index.insert(stream(0, 3, source))
        assert index.sources() == ["B", "a", "b", "é"]

    def test_select_gives_replay_order_and_the_asked_columns(self, index: Index) -> None:
        index.insert(pa.concat_tables([stream(0, 40), stream(0, 20, "a"), stream(0, 5, "Z")]))
        found = rows(index.select(EVERYTHING, ["source", "partition", "offset"]))
        assert list(found[0]) == ["source", "partition", "offset"]
        order = [tuple(row.values()) for row in found]
        assert len(order) == 65
        assert order == sorted(order)

    def test_select_streams_tables_of_bounded_size(self, index: Index) -> None:
        index.insert(stream(0, 25_000))
        parts = list(index.select(EVERYTHING, ["id", "offset"]))
        assert sum(len(part) for part in parts) == 25_000
        assert max(len(part) for part in parts) <= 10_000

    def test_select_gives_each_once_while_others_are_added(self, index: Index) -> None:
        index.insert(stream(0, 20_000))
        found: list[str] = []
        for number, part in enumerate(index.select(EVERYTHING, ["id"])):
            index.insert(stream(20_000 + number * 100, 100))
            found += part["id"].to_pylist()
        assert len(set(found)) == len(found)
        assert set(stream(0, 20_000)["id"].to_pylist()) <= set(found)

    def test_select_can_be_left_early(self, index: Index) -> None:
        index.insert(stream(0, 12_000))
        tables = index.select(EVERYTHING, ["id"])
        next(tables)
        tables.close()  # type: ignore[attr-defined]
        assert index.insert(stream(12_000, 10)) == 10

    def test_a_summary_counts_by_source(self, index: Index) -> None:
        index.insert(pa.concat_tables([stream(0, 10), stream(5, 4, "a")]))
        index.insert(table(entry("x", source="a", publish_time=None, size=5, traits=3)))
        at = [EPOCH + timedelta(microseconds=NOON + us) for us in range(4)]
        assert index.summarize(EVERYTHING) == [
            SourceSummary("a", 5, 9, at[1], at[2], {0: 4, 3: 1}),
            SourceSummary("orders", 10, 10, at[0], at[3], {0: 10}),
        ]
        assert index.summarize(Selection(sources=("b",))) == []

    def test_an_entry_without_publish_time_has_no_oldest(self, index: Index) -> None:
        index.insert(table(entry("x", publish_time=None)))
        assert index.summarize(EVERYTHING) == [SourceSummary("orders", 1, 1, None, None, {0: 1})]

    def test_many_ids_are_found_at_once(self, index: Index) -> None:
        entries = stream(0, 10_000)
        index.insert(entries)
        wanted = tuple(entries["id"].to_pylist())
        assert sorted(ids(index.select(Selection(ids=wanted), ["id"]))) == sorted(wanted)

    def test_paging_meets_each_hit_once_while_rows_are_added(self, index: Index) -> None:
        index.insert(stream(0, 20_000))
        stop = threading.Event()

        def add() -> None:
            for number in itertools.count():
                if stop.is_set():
                    return
                index.insert(stream(number * 50, 50, f"s{number % 3}"))

        adding = threading.Thread(target=add)
        adding.start()
        try:
            found = list(pages(index, Selection(sources=("orders",)), 997))
        finally:
            stop.set()
            adding.join()
        assert pa.concat_tables(found) == in_order(stream(0, 20_000), "publish_time", "id")

    def test_paging_over_all_sources_keeps_one_order(self, index: Index) -> None:
        entries = pa.concat_tables(
            [
                *(stream(0, 50, source) for source in ("b", "a", "c")),
                table(*(entry(f"none{n}", source="b", publish_time=None) for n in range(5))),
                table(entry("none9", source="a", publish_time=None)),
            ]
        )
        index.insert(entries)
        found = pa.concat_tables(list(pages(index, EVERYTHING, 7)))
        assert found == in_order(entries, "publish_time", "id")


class TestCounting:
    def test_files_are_counted_by_source(self, index: Index) -> None:
        orders = [entry(f"o{n}", location=f"file:///lake/orders-{n // 3}.parquet") for n in range(7)]
        other = entry("t", source="telemetry", location="file:///lake/telemetry.parquet")
        index.insert(table(*orders, other))
        assert index.files() == {"orders": 3, "telemetry": 1}

    def test_a_histogram_counts_by_publish_time_from_its_start(self, index: Index) -> None:
        times = [-1, 0, 1, 999_999, 1_000_000, 3_500_000, 3_500_001]
        index.insert(
            table(
                entry("untimed", publish_time=None),
                *(entry(f"m{n}", publish_time=EPOCH + timedelta(microseconds=NOON + n)) for n in times),
                entry("other", source="other"),
            )
        )
        orders = Selection(sources=("orders",))
        assert index.histogram(orders, NOON, 1_000_000) == {0: 3, 1: 1, 3: 2}
        early = parse_selection('{"sources": ["orders"], "where": [{"id": {"in": ["m0", "m1000000"]}}]}')
        assert index.histogram(early, NOON - 1, 500_000) == {0: 1, 2: 1}
        assert index.histogram(EVERYTHING, NOON, 1) == {0: 2, **dict.fromkeys(times[2:], 1)}
