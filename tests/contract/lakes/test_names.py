"""What every lake must do with names: take them as they are, list them, and delete none of messages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from tests._traits import StoreTrait
from transforms.errors import PermanentError
from transforms.lake import Lake
from transforms.maintenance.deleting_lake import DeletingLake


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "topic=a/date=2026-11-01/hour=07/orders-0-00000000000000000000.parquet",
            "with space/and+plus&amp",
            "per%cent/%2F/100%25",
            "ümlaut/日本/😀",
            "~2_0_7.x",
            "quote'and\"double",
            "(brackets)[]{}!,;@$",
            "a" * 200,
            "/".join(["deep"] * 30),
        ],
    )
    def test_names_are_taken_literally(self, lake: Lake, name: str) -> None:
        assert lake.put_new(name, b"x") is True
        assert lake.put_new(name, b"y") is False
        assert bytes(lake.get(name)) == b"x"
        assert list(lake.list()) == [(name, 1)]
        assert lake.path(lake.location(name)) == name

    @pytest.mark.parametrize("name", ["../outside", "a/../../outside", "a//b", "./a"])
    def test_names_that_leave_the_lake_are_refused(self, lake: Lake, name: str) -> None:
        with pytest.raises(PermanentError):
            lake.put_new(name, b"x")
        assert list(lake.list()) == []

    @pytest.mark.needs(StoreTrait.SHORT_NAMES)
    def test_a_name_that_is_too_long_for_the_store_is_refused_for_good(self, lake: Lake) -> None:
        with pytest.raises(PermanentError, match="takes no names that long"):
            lake.put_new("/".join(["a" * 300] * 6), b"x")


class TestLists:
    def test_a_list_has_every_object_with_its_size(self, lake: Lake) -> None:
        for number in range(5):
            lake.put_new(f"claims/orders/0/{number:020d}", bytes(number))
        lake.put_new("claims/orders/00/x", b"another folder")
        lake.put_new("claims/orders/1", b"")
        everything = dict(lake.list())
        assert len(everything) == 7
        below = {f"claims/orders/0/{number:020d}": number for number in range(5)}
        assert dict(lake.list("claims/orders/0")) == below
        assert dict(lake.list("claims/nobody")) == {}
        assert sorted(lake.folders("claims/orders")) == ["0", "00"]
        assert list(lake.folders("claims/nobody")) == []

    def test_a_list_after_a_path_has_only_what_sorts_behind_it(self, lake: Lake) -> None:
        names = [f"claims/{number:020d}" for number in (0, 7, 10, 99, 1000)]
        for name in names:
            lake.put_new(name, b"x")
        lake.put_new("later", b"x")
        assert sorted(path for path, _ in lake.list("claims", after=names[1])) == names[2:]
        assert sorted(path for path, _ in lake.list("claims", after=f"claims/{8:020d}")) == names[2:]
        assert list(lake.list("claims", after=names[-1])) == []

    def test_a_long_list_comes_in_pages(self, lake: Lake) -> None:
        names = [f"claims/{number:020d}" for number in range(1100)]
        with ThreadPoolExecutor(8) as writers:
            assert all(writers.map(lambda name: lake.put_new(name, b""), names))
        assert sorted(path for path, _ in lake.list("claims")) == names
        assert sorted(path for path, _ in lake.list("claims", after=names[50])) == names[51:]


class TestDeleting:
    def test_only_internal_objects_can_be_deleted(self, lake: Lake) -> None:
        lake.put_new("orders.parquet", b"messages")
        lake.put_new("_persistor/plans/1", b"plan")
        with pytest.raises(PermanentError, match="is a file of messages"):
            lake.delete("orders.parquet")
        lake.delete("_persistor/plans/1")
        lake.delete("_persistor/plans/1")
        assert [path for path, _ in lake.list()] == ["orders.parquet"]

    def test_expiry_finds_what_is_written_and_deletes_many_at_once(self, lake: Lake) -> None:
        expiring = DeletingLake.of(lake)
        paths = [f"orders/hour=1/{number:04d}.parquet" for number in range(30)]
        for number, path in enumerate([*paths, "_persistor/claims/orders/0/0"]):
            assert expiring.put_new(path, bytes(number))
        found = {path: (size, written) for path, size, written in expiring.written_files()}
        assert {path: size for path, (size, _) in found.items()} == {path: n for n, path in enumerate(paths)}
        ages = [datetime.now(timezone.utc) - written for _, written in found.values()]
        assert all(timedelta(minutes=-1) < age < timedelta(minutes=1) for age in ages)
        expiring.delete_all([*paths[:25], "orders/never"])
        expiring.delete_all(paths[20:27])
        assert sorted(path for path, _ in lake.list("orders")) == paths[27:]
