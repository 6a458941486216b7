"""The index made again from the lake alone."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines import rebuild as command
from pipelines.settings.maintenance import RebuildSettings
from tests._archive import archive
from tests._messages import row, table
from transforms import registry
from transforms.indexes import Index, sqlite
from transforms.lake import Lake
from transforms.maintenance.rebuild import rebuild
from transforms.model import ENTRY_SCHEMA, FILE_SCHEMA
from transforms.selection import Selection

LATER = datetime(2026, 12, 1, tzinfo=timezone.utc)
DATAPHOS = Path(__file__).parents[1] / "data" / "dataphos"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(f"file://{tmp_path}/lake")


@pytest.fixture
def lost(tmp_path: Path) -> Index:
    return sqlite.open(f"sqlite://{tmp_path}/lost.db")


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return sqlite.open(f"sqlite://{tmp_path}/index.db")


def messages(count: int, partition: int = 0) -> pa.Table:
    headers = [{"name": "version", "value": b"2"}, {"name": "bin", "value": b"\xff"}]
    return table(
        *[
            row(partition=partition, offset=n, publish_time=n * 1000, key=b"k%d" % n, headers=headers)
            for n in range(count)
        ]
    )


def everything(index: Index, *, but: str = "") -> list[dict[str, object]]:
    names = [name for name in ENTRY_SCHEMA.names if name != but]
    return [r for t in index.select(Selection(all=True), names) for r in t.to_pylist()]


def path_of(location: str) -> Path:
    return Path(location.removeprefix("file://"))


def test_the_index_is_the_one_that_was_lost_but_for_the_ingestion_times(
    lake: Lake, lost: Index, index: Index
) -> None:
    for format, partition in (("parquet", 0), ("avro", 1), ("jsonl", 2)):
        archive(lake, lost, messages(25, partition), rows_per_file=10, format=format)
    archive(lake, lost, messages(5), source="eu.t_1~3")
    report = rebuild(lake, index, LATER)
    assert (report.files, report.messages, report.indexed, report.new) == (10, 80, 80, 80)
    assert (report.failed, report.exit_code) == ({}, 0)
    assert everything(index, but="ingestion_time") == everything(lost, but="ingestion_time")
    assert {entry["ingestion_time"] for entry in everything(index)} == {LATER}


def test_rebuilding_again_changes_nothing(lake: Lake, lost: Index) -> None:
    archive(lake, lost, messages(25), rows_per_file=10)
    before = everything(lost)
    report = rebuild(lake, lost, LATER)
    assert (report.indexed, report.new, report.exit_code) == (25, 0, 0)
    assert everything(lost) == before


def test_damaged_files_and_altered_rows_are_reported_and_the_rest_is_indexed(
    lake: Lake, lost: Index, index: Index
) -> None:
    files = [path_of(location) for location in archive(lake, lost, messages(40), rows_per_file=10)]
    files[0].write_bytes(files[0].read_bytes()[:200])
    altered = registry.format_of("parquet").decode(files[1].read_bytes())
    sums = altered["checksum"].to_numpy() + (np.arange(10) == 3)
    place = FILE_SCHEMA.get_field_index("checksum")
    altered = altered.set_column(place, FILE_SCHEMA.field(place), pa.array(sums))
    files[1].write_bytes(registry.format_of("parquet").encode(altered))
    (files[0].parent / "README.txt").write_text("not ours")
    report = rebuild(lake, index, LATER)
    assert (report.files, report.skipped, report.messages, report.indexed) == (4, 1, 30, 29)
    assert report.failed == {"damaged": 1, "mismatch": 1}
    assert (report.exit_code, len(report.problems)) == (1, 2)
    ids = [entry["id"] for entry in everything(index)]
    assert ids == [f"orders_0_{n}" for n in range(10, 40) if n != 13]


def test_an_id_that_stands_for_another_message_is_a_conflict(lake: Lake, lost: Index, index: Index) -> None:
    archive(lake, lost, messages(3))
    other = Lake(f"{lake.url}-other")
    archive(other, index, table(row(offset=1, data=b"another")))
    report = rebuild(lake, index, LATER)
    assert (report.indexed, report.failed) == (2, {"conflict": 1})
    assert report.problems == [
        "orders/orders-0-00000000000000000000.parquet: 1 ids are indexed for other messages"
    ]


def test_files_of_other_products_name_no_source(lake: Lake, index: Index) -> None:
    assert lake.put_new("theirs.avro", (DATAPHOS / "lake_clean_100.avro").read_bytes())
    report = rebuild(lake, index, LATER)
    assert (report.messages, report.indexed, report.failed) == (100, 0, {"foreign": 100})
    assert everything(index) == []


def test_a_file_that_expires_after_it_was_listed_is_left_out(
    lake: Lake, lost: Index, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [path_of(location) for location in archive(lake, lost, messages(20), rows_per_file=10)]
    listed = list(lake.list())
    monkeypatch.setattr(lake, "list", lambda: iter(listed))
    files[0].unlink()
    report = rebuild(lake, index, LATER)
    assert (report.files, report.skipped, report.indexed, report.failed) == (1, 0, 10, {})
    assert [entry["id"] for entry in everything(index)] == [f"orders_0_{n}" for n in range(10, 20)]


def test_what_persistor_keeps_for_itself_is_left_out(lake: Lake, index: Index) -> None:
    assert lake.put_new("_persistor/dead/x.parquet", b"not a file of messages")
    assert rebuild(lake, index, LATER).files == 0


def test_the_command_shows_its_progress(lake: Lake, lost: Index, tmp_path: Path) -> None:
    archive(lake, lost, messages(30), rows_per_file=10)
    told: list[tuple[int, int, int]] = []
    settings = RebuildSettings(lake=lake.url, index=f"sqlite://{tmp_path}/new.db")
    report = command.run(settings, progress=lambda *counts: told.append(counts))
    assert (report.indexed, told[-1]) == (30, (30, 0, 30))
