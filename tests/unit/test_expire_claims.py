"""Retention by the claims: what it costs, what pins nothing, and whose clock counts."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests._archive import archive
from tests._messages import row, table
from tests._requests import count_requests
from tests.unit.test_expire import BEFORE, DAY, everything, files, hourly, starts
from transforms.errors import ConfigurationError
from transforms.indexes import Index
from transforms.lake import INTERNAL, Lake
from transforms.maintenance import store_clock
from transforms.maintenance.expire import expire
from transforms.reading.claims import Chain, Claim, Claims, described

CHAIN = Chain("orders", 1, 0)
AT_ONCE = timedelta(0)


def backdate(lake: Lake) -> None:
    """Have the disk say that all was written in 1970."""

    for path in files(lake):
        os.utime(f"{lake.url.removeprefix('file://')}/{path}", (0, 0))


def archived(lake: Lake, index: Index, batches: int, **said: Any) -> None:
    """One message an hour, ten a file; each file is claimed half an hour after its last message."""
    lake.put_new(f"{INTERNAL}sources/orders/000001.json", b"{}")
    messages = hourly(10 * batches)
    archive(lake, index, messages, rows_per_file=10)
    for start in range(0, len(messages), 10):
        rows = messages.slice(start, 10)
        claim = Claim(start + 10, 10, start, "{topic}", "parquet", directories=["orders"])
        claim = described(claim, rows)
        claim = replace(claim, archived_us=(claim.newest_us or 0) + DAY // 48)
        Claims(lake).make(CHAIN, start, replace(claim, **said.get(str(start), {})))
    backdate(lake)


def test_it_costs_what_is_due_and_not_what_is_there(
    lake: Lake, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived(lake, index, 300)
    before = datetime(1970, 1, 1, 12, tzinfo=timezone.utc)
    requests = count_requests(monkeypatch)
    report = expire(lake, None, before, young=AT_ONCE)
    assert (report.files, report.messages, report.claims) == (1, 10, 1)
    assert (len(files(lake)), starts(lake, CHAIN)[0]) == (299, 10)
    assert requests["get"] + requests["get_ranges"] <= 3
    assert sum(requests.values()) <= 20


def test_what_was_archived_after_the_date_stays_whatever_its_producer_said(lake: Lake, index: Index) -> None:
    late = {"archived_us": 100 * DAY}
    archived(lake, index, 30, **{str(start): late for start in range(50, 300, 10)})
    report = expire(lake, index, BEFORE, young=AT_ONCE)
    assert (report.files, report.kept, starts(lake, CHAIN)[0]) == (5, {"young": 1}, 50)
    loaded = datetime(1970, 6, 1, tzinfo=timezone.utc)
    assert expire(lake, index, BEFORE, archived_before=loaded, young=AT_ONCE).files == 18 + 1


@pytest.mark.parametrize("newest", [None, 10**9 * DAY])
def test_a_file_without_times_or_with_one_to_come_pins_nothing(
    lake: Lake, index: Index, newest: int | None
) -> None:
    archived(lake, index, 30, **{"20": {"newest_us": newest}})
    report = expire(lake, index, BEFORE, young=AT_ONCE)
    assert report.files == (24 if newest is None else 23)
    assert report.kept == ({"newer": 1} if newest is None else {"newer": 2})
    assert starts(lake, CHAIN) == ([] if newest is None else [20]) + list(range(240, 300, 10))


def test_files_of_claims_without_times_are_opened_and_pin_nothing(lake: Lake, index: Index) -> None:
    unsaid = {"archived_us": None, "newest_us": None, "oldest_us": None, "bytes": None}
    archived(lake, index, 30, **{str(start): unsaid for start in range(0, 300, 10)})
    Path(f"{lake.url.removeprefix('file://')}/orders/orders-0-{20:020d}.parquet").write_bytes(b"damaged")
    backdate(lake)
    report = expire(lake, index, BEFORE, young=AT_ONCE)
    assert (report.files, report.kept, report.exit_code) == (23, {"damaged": 1, "newer": 1}, 1)
    assert starts(lake, CHAIN) == [20, *range(240, 300, 10)]


def test_files_that_were_written_long_after_their_claim_are_young(lake: Lake, index: Index) -> None:
    archived(lake, index, 30)
    (Path(lake.url.removeprefix("file://")) / f"orders/orders-0-{50:020d}.parquet").touch()
    assert expire(lake, index, BEFORE).files == 5


def test_positions_are_no_matter_of_files_that_no_claim_names(lake: Lake, index: Index) -> None:
    archived(lake, index, 30)
    lake.put_new(f"{INTERNAL}sources/clicks/000001.json", b"{}")
    rows = [row(id=f"m{n}", partition=None, offset=None, publish_time=n * DAY) for n in range(20)]
    archive(lake, index, table(*rows), rows_per_file=5, source="clicks")
    backdate(lake)
    assert expire(lake, index, BEFORE, plan_only=True, young=AT_ONCE).files == 24 + 2
    assert expire(lake, index, BEFORE, only=["clicks"], young=AT_ONCE).files == 2
    assert len(everything(index)) == 300 + 10


def test_clocks_that_differ_delete_nothing(lake: Lake, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    archived(lake, index, 30)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(minutes=6)

    monkeypatch.setattr(store_clock, "datetime", Ahead)
    there = dict(lake.list())
    with pytest.raises(ConfigurationError, match=r"differ by more than 5 minutes: set the clock"):
        expire(lake, index, BEFORE, young=AT_ONCE)
    assert (dict(lake.list()), len(everything(index))) == (there, 300)
