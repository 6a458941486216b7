"""What every index store must do; runs once for each module of ``transforms.indexes``."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from tests._entries import EPOCH, NOON, entry, entry_tables, selections, stream, table
from tests.servers import Server, Unavailable
from tests.servers.mongodb import MongoDB
from transforms import registry
from transforms.errors import ConfigurationError
from transforms.indexes import ConflictError, Index, SourceSummary
from transforms.model import ENTRY_SCHEMA
from transforms.selection import Selection, parse_selection

SERVERS: dict[str, type[Server]] = {"mongodb": MongoDB}
"""What a store needs; one that is not named here needs a directory only."""

EVERYTHING = Selection(all=True)


@pytest.fixture(scope="module", params=registry.names("indexes"))
def new_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], str]]:
    name = request.param
    if name not in SERVERS:
        directory = tmp_path_factory.mktemp(name)
        yield lambda: f"{name}://{directory}/{uuid.uuid4().hex}.db"
        return
    try:
        SERVERS[name].install()
    except Unavailable as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    with SERVERS[name]() as server:
        yield lambda: server.url.rsplit("/", 1)[0] + f"/t{uuid.uuid4().hex}"


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
def index(url: str) -> Iterator[Index]:
    opened = registry.index(url).open(url)
    yield opened
    opened.close()


def rows(tables: Iterator[pa.Table]) -> list[dict[str, Any]]:
    return [row for part in tables for row in part.to_pylist()]


def ids(tables: Iterator[pa.Table]) -> list[str]:
    return [row["id"] for row in rows(tables)]


def pages(index: Index, selection: Selection, size: int) -> Iterator[pa.Table]:
    after = None
    while len(page := index.search(selection, size, after)):
        yield page
        last = page.slice(len(page) - 1)
        after = last["publish_time"].cast(pa.int64())[0].as_py(), last["id"][0].as_py()


def in_order(entries: pa.Table, *columns: str) -> pa.Table:
    def place(row: dict[str, Any]) -> list[Any]:
        return [(row[name] is not None, row[name]) if row[name] is not None else (False,) for name in columns]

    return table(*sorted(entries.to_pylist(), key=place))


REPLAY_ORDER = "source", "incarnation", "partition", "offset", "id"


def test_files_are_forgotten_with_all_their_entries_and_nothing_else(index: Index, url: str) -> None:
    files = {name: [f"file:///lake/{name}-{number}.parquet" for number in range(3)] for name in ("a", "b")}
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


def insert_in_this_process(url: str, first: int) -> int:
    index: Index = registry.index(url).open(url)
    try:
        return sum(index.insert(stream(start, 100)) for start in range(first, first + 400, 100))
    finally:
        index.close()


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


JOB = {
    "id": "20261101-b",
    "version": 7,
    "state": "RUNNING",
    "count": 2**53,
    "a.b": {"$set": [None, 1.5, "\0"]},
}


def job(id: str, **values: Any) -> dict[str, Any]:
    return {"id": id, "version": 0, "state": "RUNNING", "requested_by": "ann", **values}


def make(index: Index, row: dict[str, Any]) -> dict[str, Any]:
    return index.create_job(row, asked(row))


def asked(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "who": "ann", "a.b": {"$set": [None, "\0"]}}


class TestJobs:
    def test_a_job_is_kept_as_it_was_given(self, index: Index) -> None:
        assert make(index, JOB) == JOB
        assert index.get_job(JOB["id"]) == JOB
        assert index.get_job("other") is None

    def test_only_the_version_that_was_read_is_replaced(self, index: Index) -> None:
        make(index, job("1"))
        assert index.replace_job(job("1", state="PAUSED"), 0)
        assert index.get_job("1") == job("1", state="PAUSED", version=1)
        assert not index.replace_job(job("1", state="CANCELLING"), 0)
        assert not index.replace_job(job("2"), 0)
        assert index.get_job("1") == job("1", state="PAUSED", version=1)
        assert index.get_job("2") is None

    def test_of_many_writers_one_replaces_a_version(self, index: Index) -> None:
        make(index, job("1", count=0))

        def add(_: int) -> None:
            while True:
                row = index.get_job("1") or {}
                if index.replace_job({**row, "count": row["count"] + 1}, row["version"]):
                    return

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(add, range(40)))
        assert index.get_job("1") == job("1", count=40, version=40)

    def test_a_key_makes_one_job_of_each_requester(self, index: Index) -> None:
        first = make(index, job("1", idempotency_key="k"))
        assert make(index, job("2", idempotency_key="k")) == first
        assert index.get_job("2") is None
        others: list[dict[str, Any]] = [{"requested_by": "bob"}, {"requested_by": None}]
        for id, other in zip("34", others, strict=True):
            assert make(index, job(id, idempotency_key="k", **other))["id"] == id
        assert make(index, job("5", idempotency_key="k", requested_by=None))["id"] == "4"
        for id in "67":
            assert make(index, job(id, idempotency_key=None))["id"] == id

    def test_a_key_holds_also_for_requests_at_the_same_time(self, url: str) -> None:
        opened = [registry.index(url).open(url) for _ in range(2)]
        with ThreadPoolExecutor(16) as pool:
            made = list(pool.map(lambda n: make(opened[n % 2], job(str(n), idempotency_key="k")), range(16)))
        assert len({row["id"] for row in made}) == 1
        assert opened[0].list_jobs(5) == made[:1]
        for index in opened:
            index.close()

    def test_an_id_that_is_taken_gives_the_job_that_has_it(self, index: Index) -> None:
        first = make(index, job("1", count=1))
        assert make(index, job("1", count=2)) == first == index.get_job("1")

    def test_jobs_are_listed_last_first(self, index: Index) -> None:
        for id in ("1", "3", "2"):
            make(index, job(id))
        assert [row["id"] for row in index.list_jobs(2)] == ["3", "2"]
        assert [row["id"] for row in index.list_jobs(5, before="3")] == ["2", "1"]
        assert index.list_jobs(5, before="1") == []

    def test_jobs_are_listed_by_state(self, index: Index) -> None:
        for id, state in zip("12345", ["RUNNING", "PAUSED", "FAILED", "RUNNING", "PAUSED"], strict=True):
            make(index, job(id, state=state))
        assert index.replace_job(job("2", state="RUNNING"), 0)
        assert [row["id"] for row in index.list_jobs(9, states=["RUNNING"])] == ["4", "2", "1"]
        assert [row["id"] for row in index.list_jobs(3, states=["FAILED", "RUNNING"])] == ["4", "3", "2"]
        assert [row["id"] for row in index.list_jobs(9, "4", ["PAUSED", "RUNNING"])] == ["2", "1"]
        assert index.list_jobs(9, states=[]) == []


class TestAudit:
    def test_records_are_listed_last_first_as_they_were_given(self, index: Index) -> None:
        records = [{"id": id, "who": "ann", "a.b": {"$set": [None, "\0"]}} for id in "123"]
        for record in records:
            index.append_audit(record)
        assert index.list_audit(2) == [records[2], records[1]]
        assert index.list_audit(5, before="2") == [records[0]]

    def test_who_asked_for_a_job_is_stored_with_it_and_stays(self, index: Index) -> None:
        index.append_audit(asked({"id": "1"}))
        for id in ("2", "4"):
            make(index, job(id))
        index.append_audit(asked({"id": "3"}))
        assert index.replace_job(job("2", requested_by="bob"), 0)
        assert index.list_audit(3) == [asked({"id": id}) for id in "432"]
        assert index.list_audit(9, before="3") == [asked({"id": id}) for id in "21"]

    def test_who_asks_for_a_job_that_is_there_leaves_no_record(self, index: Index) -> None:
        make(index, job("1", idempotency_key="k"))
        for row in (job("1"), job("2", idempotency_key="k")):
            assert index.create_job(row, {**asked(row), "who": "eve"})["id"] == "1"
        assert index.list_audit(9) == [asked({"id": "1"})]

    def test_a_change_and_the_record_of_who_asked_for_it_are_one_write(self, index: Index) -> None:
        make(index, job("1"))
        index.append_audit(asked({"id": "4"}))
        assert index.replace_job(job("1", state="PAUSED"), 0, asked({"id": "3"}))
        assert index.replace_job(job("1", state="RUNNING"), 1, asked({"id": "5"}))
        assert [record["id"] for record in index.list_audit(9)] == ["5", "4", "3", "1"]
        assert [record["id"] for record in index.list_audit(2, before="5")] == ["4", "3"]

    def test_what_does_not_happen_leaves_no_record_and_what_leaves_none_does_not_happen(
        self, index: Index
    ) -> None:
        make(index, job("1"))
        assert not index.replace_job(job("1", state="PAUSED"), 7, asked({"id": "2"}))
        with pytest.raises(TypeError):
            index.replace_job(job("1", state="PAUSED"), 0, {"id": "3", "who": b"no JSON"})
        assert index.get_job("1") == job("1")
        assert index.list_audit(9) == [asked({"id": "1"})]

    def test_a_job_whose_record_cannot_be_stored_is_not_made(self, index: Index) -> None:
        with pytest.raises(TypeError):
            index.create_job(job("1"), {"id": "1", "who": b"no JSON"})
        assert (index.get_job("1"), index.list_jobs(9), index.list_audit(9)) == (None, [], [])


class TestOpening:
    def test_opening_again_finds_what_was_stored(self, url: str) -> None:
        first = registry.index(url).open(url)
        first.insert(stream(0, 10))
        first.close()
        second = registry.index(url).open(url)
        second.ping()
        assert second.insert(stream(0, 12)) == 2
        second.close()

    def test_secrets_in_the_url_are_resolved(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        scheme, _, rest = url.partition("://")
        monkeypatch.setenv("PLACE", rest)
        registry.index(url).open(f"{scheme}://${{env:PLACE}}").close()
        with pytest.raises(ConfigurationError, match=r"^--index: \$\{env:NOT_THERE\} is not there; "):
            registry.index(url).open(f"{scheme}://${{env:NOT_THERE}}")


@pytest.fixture(scope="module")
def emptied(new_url: Callable[[], str]) -> Iterator[Callable[[], Index]]:
    url = new_url()
    index = registry.index(url).open(url)
    yield lambda: _emptied(index)
    index.close()


class TestOneMeaning:
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(entries=entry_tables(), value=selections())
    def test_the_store_selects_what_the_arrow_filter_selects(
        self, emptied: Callable[[], Index], entries: pa.Table, value: dict[str, Any]
    ) -> None:
        index, selection = emptied(), Selection.model_validate(value)
        index.insert(entries)
        expected = entries.filter(selection.filter(entries))
        assert ids(index.select(selection, ["id"])) == in_order(expected, *REPLAY_ORDER)["id"].to_pylist()
        found = [row for page in pages(index, selection, 3) for row in page.to_pylist()]
        assert table(*found) == in_order(expected, "publish_time", "id")
        summary = index.summarize(selection)
        assert sum(source.messages for source in summary) == len(expected)
        assert sum(source.bytes for source in summary) == sum(expected["size"].to_pylist())
        assert parse_selection(selection.to_json()) == selection


def _emptied(index: Any) -> Index:
    if hasattr(index, "_messages"):
        index._messages.delete_many({})
    else:
        with index._connections.transaction() as connection:
            connection.execute("DELETE FROM entries")
    return index


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
