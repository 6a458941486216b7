"""Lists of jobs are read many times a second, so they leave out what makes rows long."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pymongo.collection import Collection

from transforms.errors import PermanentError
from transforms.indexes import Index, sqlite
from transforms.indexes.mongodb import MongoIndex

LONG, SHORT = 20, 10
SELECTION = {"sources": ["orders"], "ids": [f"orders_0_{number}" for number in range(10_000)]}
ERRORS = [{"id": "orders_0_0", "reason": "x" * 200}] * 100


def row(number: int, **values: Any) -> dict[str, Any]:
    given = {"version": 0, "state": "RUNNING", "requested_by": "ann", "selection": SELECTION}
    return {"id": f"{number:03}", **given, "errors": ERRORS, "progress": {"planned": 9}, **values}


@pytest.fixture
def index(index: Index) -> Index:
    for number in range(LONG):
        index.create_job(row(number), {"id": f"{number:03}"})  # type: ignore[arg-type]
    for number in range(LONG, LONG + SHORT):
        short = row(number, selection={"ids": ["a"]}, errors=[])
        index.create_job(short, {"id": f"{number:03}"})  # type: ignore[arg-type]
    return index


def test_long_rows_are_abridged_and_short_ones_whole(index: Index) -> None:
    *short, long = index.list_jobs(SHORT + 1)
    assert [one["selection"] for one in short] == [{"ids": ["a"]}] * SHORT
    assert (long["selection"], long["errors"]) == ({"sources": ["orders"]}, [])
    assert (long["abridged"], long["errors_listed"], long["progress"]) == (True, 100, {"planned": 9})
    assert len(json.dumps(index.list_jobs(100, states=["RUNNING"]))) < (LONG + SHORT) * 1_000


def test_a_row_itself_is_whole_and_stays_so_through_changes(index: Index) -> None:
    assert index.get_job("000") == row(0)
    changed = row(0, state="PAUSED")
    assert index.replace_job(changed, 0)  # type: ignore[arg-type]
    assert index.get_job("000") == {**changed, "version": 1}
    [listed] = index.list_jobs(1, states=["PAUSED"])
    assert (listed["version"], listed["state"], listed["abridged"]) == (1, "PAUSED", True)


def test_what_a_listing_left_out_cannot_be_lost_by_writing_it_back(index: Index) -> None:
    [listed] = index.list_jobs(1, before="001")
    with pytest.raises(PermanentError, match="read from a listing"):
        index.replace_job(listed, 0)
    assert index.get_job("000") == row(0)


@pytest.mark.parametrize("new_url", ["mongodb"], indirect=True)
def test_mongodb_sends_no_more_than_is_listed(index: MongoIndex) -> None:
    jobs: Collection[Any] = index._jobs
    jobs.database.command("profile", 2)
    index.list_jobs(100, states=["RUNNING"])
    jobs.database.command("profile", 0)
    [asked] = jobs.database["system.profile"].find({"ns": jobs.full_name, "op": "query"})
    assert asked["responseLength"] < (LONG + SHORT) * 1_500
    assert len(json.dumps(row(0))) > 100_000


@pytest.mark.parametrize("new_url", ["mongodb"], indirect=True)
def test_a_brief_text_of_another_version_is_not_listed(index: MongoIndex) -> None:
    index._jobs.update_one({"_id": "000"}, {"$set": {"version": 5}})  # as an older release writes
    [listed] = index.list_jobs(1, before="001")
    assert listed == row(0)


def test_a_file_of_an_older_release_lists_its_jobs(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/index.db"
    sqlite.open(url).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "index.db")) as connection:
        connection.execute("ALTER TABLE jobs DROP COLUMN brief")
        connection.execute("INSERT INTO jobs VALUES ('000', ?)", (json.dumps(row(0)),))
        connection.commit()
    with contextlib.closing(sqlite.open(url)) as index:
        assert index.list_jobs(9) == [row(0)]
        assert index.replace_job(row(0), 0)  # type: ignore[arg-type]
        assert index.list_jobs(9)[0]["abridged"]
