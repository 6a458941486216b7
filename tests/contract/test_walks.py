"""How indexes are read in replay order: nothing sorted; MongoDB by short queries that survive failures."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from tests._entries import stream
from tests.conftest import running
from tests.servers import wait_until
from tests.servers.mongodb import MongoDB
from transforms.indexes import mongodb, sqlite
from transforms.indexes.mongodb import replay_order
from transforms.selection import Selection, parse_selection

EVERYTHING = Selection(all=True)
ENTRIES = 50_000
ORDER = [(field, 1) for field in replay_order.REPLAY_ORDER]


@pytest.fixture
def server() -> Iterator[MongoDB]:
    yield from running(MongoDB)


@pytest.fixture
def messages(server: MongoDB) -> Iterator[Collection[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](server.url) as client:
        yield client["persistor"]["messages"]


def filled(server: MongoDB) -> mongodb.MongoIndex:
    index = mongodb.open(server.url)
    for first in range(0, ENTRIES, 10_000):
        index.insert(stream(first, 10_000))
    return index


def in_order() -> list[tuple[int, int]]:
    return sorted((number % 4, number // 4) for number in range(ENTRIES))


def positions(tables: Iterator[pa.Table]) -> list[tuple[int, int]]:
    return [(row["partition"], row["offset"]) for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize(
    "selection",
    ['{"all": true}', '{"published_from": "2020-01-01T00:00:00Z"}', '{"where": [{"key": {"prefix": "k"}}]}'],
)
def test_a_plan_of_a_large_selection_sorts_nothing_and_examines_little_before_its_first_rows(
    server: MongoDB,
    messages: Collection[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    selection: str,
) -> None:
    for name in ("_FEW", "_MANY"):  # as if these were millions
        monkeypatch.setattr(replay_order, name, 1_000)
    with contextlib.closing(filled(server)) as index:
        messages.database.command("profile", 2)
        tables = index.select(parse_selection(selection), ["partition", "offset"])
        first = next(tables)
        messages.database.command("profile", 0)
        asked = list(messages.database["system.profile"].find({"op": {"$in": ["query", "command"]}}))
        assert {one.get("hasSortStage", False) for one in asked} == {False}
        assert max(one.get("docsExamined", 0) for one in asked) <= replay_order._EXAMINED
        assert max(one.get("keysExamined", 0) for one in asked) <= replay_order._EXAMINED + 1
        found = positions(iter([first])) + positions(tables)
    assert found == in_order()


def test_a_selection_goes_on_from_its_position_after_the_server_was_away(server: MongoDB) -> None:
    with contextlib.closing(filled(server)) as index:
        tables = index.select(EVERYTHING, ["partition", "offset"])
        first = next(tables)
        server.kill()
        back = threading.Timer(1, server.start)
        back.start()
        found = positions(iter([first])) + positions(tables)
        back.join()
    assert found == in_order()


def test_a_collection_of_an_older_release_gets_its_index_meanwhile(
    server: MongoDB, messages: Collection[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(filled(server)) as index:
        messages.drop_index(ORDER)
        assert not replay_order.can_walk(messages)
        assert positions(index.select(EVERYTHING, ["partition", "offset"])) == in_order()
    monkeypatch.setattr(replay_order, "_BUILT_AT_ONCE", 1_000)
    with contextlib.closing(mongodb.open(server.url)) as index:
        wait_until(lambda: replay_order.can_walk(messages), 60, "the index in replay order")
        assert positions(index.select(EVERYTHING, ["partition", "offset"])) == in_order()


def test_sqlite_sorts_no_large_time_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_FEW", 100)
    asked: list[str] = []
    with contextlib.closing(sqlite.open(f"sqlite://{tmp_path}/index.db")) as index:
        index.insert(stream(0, 1_000))
        with index._connections.snapshot() as connection:
            connection.set_trace_callback(asked.append)
        since = parse_selection('{"published_from": "2020-01-01T00:00:00Z"}')
        found = positions(index.select(since, ["partition", "offset"]))
        assert found == sorted((number % 4, number // 4) for number in range(1_000))
    [statement] = [text for text in asked if "ORDER BY incarnation" in text]
    with contextlib.closing(sqlite3.connect(tmp_path / "index.db")) as connection:
        steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert [step for step in steps if "B-TREE" in step] == []
