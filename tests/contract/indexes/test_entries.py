"""What every index store must do with entries: keep them as they are, once, and forget them."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pyarrow as pa
import pytest

from tests._entries import entry, stream, table
from tests.contract.indexes._rows import EVERYTHING, ids, rows
from transforms import registry
from transforms.indexes import ConflictError, Index
from transforms.model import ENTRY_SCHEMA


class TestStoring:
    def test_an_entry_comes_back_as_it_went_in(self, index: Index) -> None:
        entries = table(
            entry(
                "orders_1_2", partition=1, offset=2, key=b"\xff\x00", attributes=[("", "x"), ("a.b", "$\0")]
            ),
            entry(
                "plain", partition=None, offset=None, publish_time=None, key=b"", checksum=None, traits=2**30
            ),
            entry("big", offset=2**63 - 1, size=2**40, checksum=-(2**63), position=2**40, incarnation=7),
        )
        assert index.insert(entries) == 3
        found = [index.get(id) for id in ("orders_1_2", "plain", "big")]
        assert pa.concat_tables(found) == entries
        assert found[0].schema == ENTRY_SCHEMA

    def test_an_unknown_id_gives_no_row(self, index: Index) -> None:
        assert index.get("nothing").num_rows == 0
        assert index.get("nothing").schema == ENTRY_SCHEMA

    def test_an_empty_table_changes_nothing(self, index: Index) -> None:
        assert index.insert(table()) == 0
        assert index.sources() == []
        assert rows(index.select(EVERYTHING, ["id"])) == []
        assert index.search(EVERYTHING, 10).num_rows == 0
        assert index.summarize(EVERYTHING) == []

    def test_a_repeated_entry_stays_as_it_was(self, index: Index) -> None:
        first, second = stream(0, 6), stream(3, 6)
        moved = second.set_column(
            ENTRY_SCHEMA.get_field_index("location"), ENTRY_SCHEMA.field("location"), [["file:///other"] * 6]
        )
        assert index.insert(first) == 6
        assert index.insert(moved) == 3
        found = {row["id"]: row["location"] for row in rows(index.select(EVERYTHING, ["id", "location"]))}
        assert [found[id] == "file:///other" for id in stream(0, 9)["id"].to_pylist()] == [False] * 6 + [
            True
        ] * 3

    def test_another_checksum_is_a_conflict_and_the_rest_is_stored(self, index: Index) -> None:
        index.insert(table(entry("a", checksum=1), entry("b", checksum=2), entry("c", checksum=None)))
        with pytest.raises(ConflictError) as raised:
            index.insert(
                table(
                    entry("new", checksum=9),
                    entry("a", checksum=-1),
                    entry("b", checksum=2),
                    entry("c", checksum=3),
                )
            )
        assert raised.value.ids == ["a"]
        assert sorted(ids(index.select(EVERYTHING, ["id"]))) == ["a", "b", "c", "new"]
        assert index.get("a")["checksum"].to_pylist() == [1]
        assert index.insert(table(entry("a", checksum=None))) == 0

    def test_an_id_twice_in_one_table_is_compared_too(self, index: Index) -> None:
        assert index.insert(table(entry("a", checksum=1), entry("a", checksum=1))) == 1
        with pytest.raises(ConflictError) as raised:
            index.insert(table(entry("b", checksum=1), entry("b", checksum=2)))
        assert raised.value.ids == ["b"]

    def test_threads_share_an_index(self, index: Index) -> None:
        with ThreadPoolExecutor(4) as pool:
            counts = list(pool.map(lambda first: index.insert(stream(first, 300)), range(0, 1200, 100)))
        assert sum(counts) == 1400
        assert index.summarize(EVERYTHING)[0].messages == 1400

    def test_processes_share_an_index(self, url: str) -> None:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(3, mp_context=context) as pool:
            counts = list(pool.map(insert_in_this_process, [url] * 6, [0, 200, 400, 600, 0, 200]))
        index = registry.index(url).open(url)
        assert sum(counts) == 1000
        assert sorted(ids(index.select(EVERYTHING, ["id"]))) == sorted(stream(0, 1000)["id"].to_pylist())
        index.close()


class TestForgetting:
    def test_files_are_forgotten_with_all_their_entries_and_nothing_else(
        self, index: Index, url: str
    ) -> None:
        files = {
            name: [f"file:///lake/{name}-{number}.parquet" for number in range(3)] for name in ("a", "b")
        }
        for name, locations in files.items():
            for number, location in enumerate(locations):
                made = (entry(f"{name}_{number}_{i}", source=name, location=location) for i in range(4))
                assert index.insert(table(*made)) == 4
        gone = [*files["a"], files["b"][1], "file:///lake/never.parquet"]
        assert [index.forget(gone), index.forget(gone), index.forget([])] == [16, 0, 0]
        assert index.sources() == ["b"]
        other = registry.index(url).open(url)
        kept = rows(other.select(EVERYTHING, ["id", "location"]))
        other.close()
        assert {row["location"] for row in kept} == {files["b"][0], files["b"][2]}
        assert len(kept) == 8
        again = table(entry("a_0_0", source="a", location=files["a"][0], checksum=2))
        assert index.insert(again) == 1  # what was forgotten does not stand in the way of what comes later
        assert index.get("a_0_0")["location"].to_pylist() == files["a"][:1]


def insert_in_this_process(url: str, first: int) -> int:
    index: Index = registry.index(url).open(url)
    try:
        return sum(index.insert(stream(start, 100)) for start in range(first, first + 400, 100))
    finally:
        index.close()
