"""None"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests._archive import archive
from tests._messages import row, table
from transforms.errors import ConfigurationError
from transforms.indexes import Index, sqlite
from transforms.lake import INTERNAL, Lake
from transforms.maintenance.expire import Expired, expire
from transforms.maintenance.rebuild import rebuild
from transforms.model import ENTRY_SCHEMA
from transforms.reading.claims import Chain, Claim, Claims
from transforms.reading.newest import Resumed, resume
from transforms.selection import Selection

DAY = 86_400_000_000


BEFORE = datetime(1970, 1, 11, tzinfo=timezone.utc)
"""Day 10: messages of tests are one an hour, file by file ten of them."""


AT_ONCE: dict[str, Any] = {
    "young": timedelta(0),
    "archived_before": datetime(2100, 1, 1, tzinfo=timezone.utc),
}
"""For files that were written just now."""


DATAPHOS = Path(__file__).parents[1] / "data" / "dataphos"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(f"file://{tmp_path}/lake")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    opened = sqlite.open(f"sqlite://{tmp_path}/index.db")
    yield opened
    opened.close()


def hourly(messages: int, partition: int = 0) -> pa.Table:
    rows = [row(partition=partition, offset=n, publish_time=n * DAY // 24) for n in range(messages)]
    return table(*rows)


def stored(lake: Lake, index: Index, source: str = "orders", messages: int = 480, **how: Any) -> list[str]:
    """Twenty days of one source, a file every ten hours: 24 files are older than day 10."""
    lake.put_new(f"{INTERNAL}sources/{source}/000001.json", b"{}")
    return archive(lake, index, hourly(messages), rows_per_file=10, source=source, **how)


def files(lake: Lake) -> list[str]:
    return sorted(path for path, _ in lake.list() if not path.startswith(INTERNAL))


def everything(index: Index) -> list[dict[str, object]]:
    names = [name for name in ENTRY_SCHEMA.names if name != "ingestion_time"]
    return [r for t in index.select(Selection(all=True), names) for r in t.to_pylist()]


def rebuilt(lake: Lake, tmp_path: Path) -> list[dict[str, object]]:
    opened = sqlite.open(f"sqlite://{tmp_path}/rebuilt.db")
    assert rebuild(lake, opened, BEFORE).exit_code == 0
    found = everything(opened)
    opened.close()
    (tmp_path / "rebuilt.db").unlink()
    return found


def check_nothing_points_at_nothing(lake: Lake, index: Index) -> None:
    named = {lake.path(str(one["location"])) for one in everything(index)}
    assert named <= set(files(lake))


@pytest.mark.parametrize("format", ["parquet", "avro", "jsonl"])
def test_whole_files_that_are_older_go_with_their_entries(
    lake: Lake, index: Index, tmp_path: Path, format: str
) -> None:
    locations = stored(lake, index, format=format)
    sizes = dict(lake.list())
    report = expire(lake, index, BEFORE, **AT_ONCE)
    gone = [lake.path(one) for one in locations[:24]]
    assert report == Expired(
        before="1970-01-11T00:00:00+00:00",
        done=True,
        files=24,
        messages=240,
        bytes=sum(sizes[path or ""] for path in gone),
        entries=240,
        kept={"newer": 24},
    )
    assert files(lake) == sorted(str(lake.path(one)) for one in locations[24:])
    assert everything(index) == rebuilt(lake, tmp_path)
    assert len(everything(index)) == 240
    assert (
        expire(lake, index, BEFORE, **AT_ONCE).to_dict()
        == Expired(before="1970-01-11T00:00:00+00:00", done=True, kept={"newer": 24}).to_dict()
    )


def test_a_file_with_messages_on_both_sides_stays_whole(lake: Lake, index: Index) -> None:
    locations = stored(lake, index)
    report = expire(lake, index, BEFORE - timedelta(hours=1), **AT_ONCE)
    assert (report.files, report.kept) == (23, {"newer": 25})
    assert lake.path(locations[23]) in files(lake)
    assert len([one for one in everything(index) if one["location"] == locations[23]]) == 10
    assert expire(lake, index, BEFORE - timedelta(hours=1, microseconds=-1), **AT_ONCE).files == 1


def test_a_plan_says_what_would_go_and_changes_nothing(lake: Lake, index: Index) -> None:
    stored(lake, index)
    objects, entries = dict(lake.list()), everything(index)
    plan = expire(lake, index, BEFORE, plan_only=True, **AT_ONCE)
    assert (plan.done, plan.files, plan.messages, plan.entries, len(plan.notes)) == (False, 24, 240, 0, 1)
    assert (dict(lake.list()), everything(index)) == (objects, entries)


def test_only_the_sources_that_are_named_are_looked_at(lake: Lake, index: Index) -> None:
    stored(lake, index)
    locations = stored(lake, index, "eu_orders")
    report = expire(lake, index, BEFORE, only=["orders"], **AT_ONCE)
    assert (report.files, report.entries, report.kept) == (24, 240, {"newer": 24})
    assert {lake.path(one) for one in locations} <= set(files(lake))
    with pytest.raises(ConfigurationError, match=r"`source: order`: .* has eu_orders, orders\."):
        expire(lake, index, BEFORE, only=["order"])


def test_what_was_just_written_or_cannot_be_judged_stays(lake: Lake, index: Index) -> None:
    locations = stored(lake, index)
    for location in locations[1:]:
        os.utime(location.removeprefix("file://"), (0, 0))
    Path(locations[1].removeprefix("file://")).write_bytes(b"damaged")
    os.utime(locations[1].removeprefix("file://"), (0, 0))
    untimed = row(id="orders_9_1", partition=9, offset=1, publish_time=None)
    archive(lake, index, table(untimed), source="untimed")
    lake.put_new("theirs.avro", (DATAPHOS / "lake_clean_100.avro").read_bytes())
    lake.put_new("README.txt", b"not ours")
    report = expire(lake, index, BEFORE)
    assert report.kept == {"young": 2, "damaged": 1, "unknown": 2, "newer": 24}
    assert (report.files, report.exit_code) == (22, 1)
    assert [one.partition(":")[0] for one in report.problems] == [lake.path(locations[1])]


def test_entries_whose_file_is_gone_leave_the_index_too(lake: Lake, index: Index, tmp_path: Path) -> None:
    locations = stored(lake, index)
    for location in (*locations[:3], locations[40]):
        Path(location.removeprefix("file://")).unlink()
    report = expire(lake, index, BEFORE, **AT_ONCE)
    assert (report.files, report.messages, report.entries, report.lost) == (21, 210, 240, 3)
    assert not {locations[40]} & set(files(lake))  # newer than the date: not this command's business
    assert len(everything(index)) == 240


def test_a_lake_without_an_index_expires_too(lake: Lake, index: Index) -> None:
    stored(lake, index)
    report = expire(lake, None, BEFORE, **AT_ONCE)
    assert (report.files, report.entries, len(files(lake))) == (24, 0, 24)


def test_messages_without_positions_expire_too(lake: Lake, index: Index, tmp_path: Path) -> None:
    rows = [row(id=f"m{n}", partition=None, offset=None, publish_time=n * DAY) for n in range(20)]
    lake.put_new(f"{INTERNAL}sources/clicks/000001.json", b"{}")
    archive(lake, index, table(*rows), rows_per_file=5, source="clicks")
    report = expire(lake, index, BEFORE, only=["clicks"], **AT_ONCE)
    assert (report.files, report.entries, report.kept) == (2, 10, {"newer": 2})
    assert everything(index) == rebuilt(lake, tmp_path)
    assert {one["id"] for one in everything(index)} == {f"clicks_m{n}" for n in range(10, 20)}


def claimed(lake: Lake, partition: int = 0, durable: Callable[[int], int] = lambda start: start) -> Chain:
    """A hole up to 0 is left out; one claim per file, each of which says what was durable by then."""
    chain, claims = Chain("orders", 1, partition), Claims(lake)
    for start in range(0, 480, 10):
        claims.make(
            chain, start, Claim(start + 10, 10, durable(start), "{topic}", "parquet", directories=["orders"])
        )
    return chain


def starts(lake: Lake, chain: Chain) -> list[int]:
    return sorted(int(path.rpartition("/")[2]) for path, _ in lake.list(f"{INTERNAL}claims/{chain.name}"))


def test_the_claims_before_the_first_file_that_stays_go(lake: Lake, index: Index) -> None:
    stored(lake, index)
    chain = claimed(lake)
    assert expire(lake, index, BEFORE, **AT_ONCE).claims == 24
    assert starts(lake, chain) == list(range(240, 480, 10))
    assert (resume(Claims(lake), chain, None) or Resumed(0)).position == 470
    assert resume(Claims(lake), chain, (480, "470")) == Resumed(480)


def test_claims_from_the_durable_position_on_stay_though_their_files_go(lake: Lake, index: Index) -> None:
    stored(lake, index)
    chain = claimed(lake, durable=lambda start: min(start, 450))
    report = expire(lake, index, BEFORE + timedelta(days=30), **AT_ONCE)
    assert (report.files, report.claims, files(lake)) == (48, 45, [])
    assert starts(lake, chain) == [450, 460, 470]
    assert (resume(Claims(lake), chain, None) or Resumed(0)).position == 450
    assert sorted(Claims(lake).ahead(chain, 450)) == [450, 460, 470]


def test_the_newest_claim_of_a_chain_stays(lake: Lake, index: Index) -> None:
    stored(lake, index)
    chain = claimed(lake, durable=lambda start: start)
    expire(lake, index, BEFORE + timedelta(days=30), **AT_ONCE)
    assert starts(lake, chain) == [470]
    report = expire(lake, index, BEFORE + timedelta(days=30), **AT_ONCE)
    assert (report.claims, starts(lake, chain)) == (0, [470])


_KILLED_AT_A_STEP = """
import json, os, signal, sys
from datetime import datetime, timedelta, timezone
import transforms.maintenance.expire as expiry
from transforms import registry
from transforms.lake import Lake

lake, config, index, before, step = sys.argv[1:]
lake, index, left = Lake(lake, json.loads(config)), registry.index(index).open(index), int(step)

def die(frame, event, argument):
    global left
    if event == "return" and frame.f_code.co_name in {"forget", "delete_all", "refuse_other_clock", "survey"}:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

expiry._FILES_AT_ONCE, expiry._CLAIMS_AT_ONCE = 7, 9
sys.setprofile(die)
before = datetime.fromisoformat(before)
expiry.expire(lake, index, before, young=timedelta(0), archived_before=datetime.now(timezone.utc))
"""


def check_kills_between_any_two_steps(lake: Lake, index: Index, index_url: str, tmp_path: Path) -> None:
    """Nothing points at nothing after any of them, and the runs together do what one would have done."""
    stored(lake, index)
    chain = claimed(lake)
    _, (url, config) = lake.__reduce__()
    arguments = [url, json.dumps(config), index_url, BEFORE.isoformat()]
    killed = []
    for step in count():
        # The first kill is before anything happened; each run goes on where the last one was killed.
        done = subprocess.run(
            [sys.executable, "-c", _KILLED_AT_A_STEP, *arguments, str(step % 4)], check=False
        )
        check_nothing_points_at_nothing(lake, index)
        kept = starts(lake, chain)
        assert kept == list(range(kept[0], 480, 10))
        killed.append(done.returncode)
        if done.returncode == 0:
            break
    assert set(killed[:-1]) == {-9}
    assert len(killed) > 8
    assert (len(files(lake)), starts(lake, chain)[0]) == (24, 240)
    assert everything(index) == rebuilt(lake, tmp_path)


def test_a_kill_between_any_two_steps_leaves_nothing_that_points_at_nothing(
    lake: Lake, index: Index, tmp_path: Path
) -> None:
    check_kills_between_any_two_steps(lake, index, f"sqlite://{tmp_path}/index.db", tmp_path)


_PLANNED = """
import resource, sys
from datetime import datetime, timedelta, timezone
from transforms.maintenance.expire import expire
from transforms.lake import Lake

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
plan = expire(Lake(sys.argv[1]), None, datetime.now(timezone.utc), plan_only=True, young=timedelta(0))
print(plan.files, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_files_that_have_to_be_read_whole_are_not_all_in_memory_at_once(lake: Lake, index: Index) -> None:
    rows = [row(offset=n, publish_time=n, data=b"%08d" % n * 800) for n in range(1250)]
    [location] = archive(lake, index, table(*rows), rows_per_file=1250, source="orders", format="jsonl")
    lake.put_new(f"{INTERNAL}sources/orders/000001.json", b"{}")
    file = Path(location.removeprefix("file://"))
    for number in range(1, 48):
        os.link(file, file.with_name(f"{number}-{file.name}"))
    assert 8_000_000 < file.stat().st_size < 9_000_000
    command = [sys.executable, "-c", _PLANNED, lake.url]
    planned, mebibytes = map(int, subprocess.run(command, check=True, capture_output=True).stdout.split())
    assert planned == 48
    assert mebibytes < 300
