"""Stored JSON has a version, forgives what it does not know, and refuses what is newer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.release import DATA
from tests.unit.test_plans import some_plan
from transforms.errors import PermanentError, PersistorError
from transforms.indexes import sqlite
from transforms.indexes._job_text import dump_text, load_row
from transforms.lake import Lake
from transforms.maintenance.chains import chains
from transforms.maintenance.deleting_lake import DeletingLake
from transforms.maintenance.due import Dates, walk
from transforms.read_batches import Positions, _PositionsCoder
from transforms.reading.claims import Chain, Claim, Claims
from transforms.reading.newest import Resumed, resume
from transforms.replay.control import Control, Wish, write_control
from transforms.replay.ledger import Ledger, total
from transforms.replay.plans import folder, load_plan
from transforms.replay.report import Tally

_CHAIN = Chain("orders", 1, 0)
_CLAIM = Claim(5, 5, 0, "{topic}", "parquet", first=7, first_position=0, directories=["orders"])
_PLAN = some_plan("job", {3: 5})


def claim(lake: Lake) -> str:
    Claims(lake).make(_CHAIN, 0, _CLAIM)
    return "_persistor/claims/orders/0/00000000000000000000"


def source(lake: Lake) -> str:
    Claims(lake).incarnation("orders", "cluster", "topic")
    return "_persistor/sources/orders/000001.json"


def plan(lake: Lake) -> str:
    lake.put_new(f"{folder('job')}/plan.json", _PLAN.to_json().encode())
    return f"{folder('job')}/plan.json"


def ledger(lake: Lake) -> str:
    Ledger(lake, _PLAN, 3).write(Tally(published=5))
    return f"{folder('job')}/done/03/000000000005.json"


def control(lake: Lake) -> str:
    write_control(lake, "job", Wish("pause"), 1)
    return f"{folder('job')}/control/000000000001.json"


def read_claim(lake: Lake) -> None:
    assert Claims(lake).ahead(_CHAIN, 0) == {0: _CLAIM}
    assert resume(Claims(lake), _CHAIN, None) == Resumed(0, None, {0: _CLAIM})


def read_spent(lake: Lake) -> None:
    Claims(lake).incarnation("orders", "cluster", "topic")
    [chain] = chains(lake, "orders")
    with ThreadPoolExecutor(1) as pool:
        assert walk(DeletingLake.of(lake), chain, Dates(0, 0), pool).spent == []


def read_source(lake: Lake) -> None:
    assert Claims(lake).incarnation("orders", "cluster", "topic") == 1


def read_plan(lake: Lake) -> None:
    assert load_plan(lake, "job") == _PLAN


def read_ledger(lake: Lake) -> None:
    assert total(lake, _PLAN).published == 5


def read_control(lake: Lake) -> None:
    assert Control(lake, "job").wish() == Wish("pause")


STORED = pytest.mark.parametrize(
    ("write", "read"),
    [
        (claim, read_claim),
        (claim, read_spent),
        (source, read_source),
        (plan, read_plan),
        (ledger, read_ledger),
        (control, read_control),
    ],
    ids=["claim", "newest claim", "source", "plan", "ledger", "control"],
)


def replaced(lake: Lake, path: str, content: bytes) -> None:
    lake.delete(path)
    assert lake.put_new(path, content)


def with_more(value: Any) -> Any:
    """Each object within with one field more, but those that say a number of each name."""
    if isinstance(value, list):
        return [with_more(one) for one in value]
    if not isinstance(value, dict) or value.keys() <= {"3"}:
        return value
    return {**{name: with_more(one) for name, one in value.items()}, "of_a_later_release": {"x": 1}}


@STORED
def test_it_has_a_version_and_fields_of_a_later_release_are_ignored(
    lake: Lake, write: Callable[[Lake], str], read: Callable[[Lake], None]
) -> None:
    path = write(lake)
    stored = json.loads(bytes(lake.get(path)))
    assert stored["version"] >= 1
    replaced(lake, path, json.dumps(with_more(stored)).encode())
    read(lake)


@STORED
def test_a_newer_version_is_refused_with_what_to_do(
    lake: Lake, write: Callable[[Lake], str], read: Callable[[Lake], None]
) -> None:
    path = write(lake)
    stored = json.loads(bytes(lake.get(path)))
    newer = stored["version"] + 1
    replaced(lake, path, json.dumps({**stored, "version": newer}).encode())
    with pytest.raises(PermanentError) as refused:
        read(lake)
    assert lake.location(path) in str(refused.value)
    assert f"by a newer release of Persistor (version {newer}" in str(refused.value)
    assert str(refused.value).endswith("use that release here too.")


@STORED
@pytest.mark.parametrize(
    ("content", "advice"),
    [(b"", "is empty: .* Delete it and start again"), (b"{", "is damaged: "), (b"[1]", "is damaged: ")],
    ids=["empty", "cut", "other"],
)
def test_what_cannot_be_read_is_named_with_what_to_do(
    lake: Lake, write: Callable[[Lake], str], read: Callable[[Lake], None], content: bytes, advice: str
) -> None:
    path = write(lake)
    replaced(lake, path, content)
    with pytest.raises(PermanentError, match=advice) as refused:
        read(lake)
    assert lake.location(path) in str(refused.value)


def test_claims_of_the_first_release_lack_what_was_added_since(tmp_path: Path) -> None:
    stored = json.loads((DATA / "lake/_persistor/claims/release/0/00000000000000000000").read_text())
    assert {"version", "bytes", "oldest_us", "newest_us", "archived_us"} & stored.keys() == set()


def test_a_restriction_forgives_and_refuses_too() -> None:
    coder, positions = _PositionsCoder(), Positions({"orders~1/0": 7})
    stored = json.loads(coder.encode(positions))
    assert stored == {"v": 1, "next": {"orders~1/0": 7}, "done": False, "at": ""}
    assert coder.decode(json.dumps({**stored, "later": 1}).encode()) == positions
    with pytest.raises(PermanentError, match=r"saved state of this job was written by a newer release"):
        coder.decode(json.dumps({**stored, "v": 2}).encode())


def test_rows_of_jobs_keep_what_they_do_not_know_and_refuse_what_is_newer(tmp_path: Path) -> None:
    row = {"id": "1", "version": 0, "state": "RUNNING", "later": {"x": 1}}
    index = sqlite.open(f"sqlite://{tmp_path}/index.db")
    assert index.create_job(row, {"id": "2", "action": "resubmit"}) == row
    assert index.replace_job({**row, "state": "PAUSED"}, 0)
    assert index.get_job("1") == {**row, "version": 1, "state": "PAUSED"}
    assert json.loads(dump_text(row))["format"] == 1
    with pytest.raises(PermanentError, match="written by a newer release"):
        load_row(json.dumps({**row, "format": 2}))


def test_an_index_of_a_newer_release_is_refused_with_what_to_do(tmp_path: Path) -> None:
    sqlite.open(f"sqlite://{tmp_path}/index.db").close()
    with closing(sqlite3.connect(tmp_path / "index.db")) as connection:
        connection.execute("PRAGMA user_version=2")
    with pytest.raises(PersistorError, match=r"a newer release of Persistor made the file: use that release"):
        sqlite.open(f"sqlite://{tmp_path}/index.db")
