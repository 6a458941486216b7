"""What every lake must do with one object: write it once and whole, and read what was asked for."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

from tests._traits import StoreTrait
from transforms.errors import PermanentError, TransientError
from transforms.lake import Lake, ObjectMissingError
from transforms.retry import retry


class TestWriting:
    def test_an_object_comes_back_as_it_was_written(self, lake: Lake) -> None:
        data = bytes(range(256)) * 10
        assert lake.put_new("a/b.parquet", data) is True
        assert bytes(lake.get("a/b.parquet")) == data

    @pytest.mark.parametrize("view", [memoryview, pa.py_buffer])
    def test_buffers_are_written_as_bytes_are(self, lake: Lake, view: Any) -> None:
        assert lake.put_new("a", view(b"content")) is True
        assert bytes(lake.get("a")) == b"content"

    def test_an_empty_object_is_an_object(self, lake: Lake) -> None:
        assert lake.put_new("empty", b"") is True
        assert bytes(lake.get("empty")) == b""
        assert lake.open("empty").size == 0
        assert lake.put_new("empty", b"no longer") is False

    def test_a_second_write_is_refused_and_changes_nothing(self, lake: Lake) -> None:
        assert lake.put_new("a", b"first") is True
        assert lake.put_new("a", b"second, and longer") is False
        assert lake.put_new("a", b"first") is False
        assert bytes(lake.get("a")) == b"first"

    @pytest.mark.parametrize("attempt", range(3))
    def test_of_many_writers_at_once_exactly_one_wins(self, lake: Lake, attempt: int) -> None:
        contents = [bytes([number]) * 20_000 for number in range(20)]

        def write(content: bytes) -> bool:
            return retry(lambda: lake.put_new("contested", content), "write", give_up_after=20)

        with ThreadPoolExecutor(20) as writers:
            won = list(writers.map(write, contents))
        assert won.count(True) == 1
        assert bytes(lake.get("contested")) == contents[won.index(True)]

    def test_20_megabytes_are_one_object(self, lake: Lake) -> None:
        data = b"".join(number.to_bytes(4, "big") for number in range(5 * 2**20))
        assert lake.put_new("large", data) is True
        assert lake.put_new("large", data) is False
        assert lake.open("large").size == len(data)
        assert bytes(lake.get("large")) == data

    def test_a_lake_travels_to_a_worker(self, lake: Lake) -> None:
        lake.put_new("a", b"x")
        assert bytes(pickle.loads(pickle.dumps(lake)).get("a")) == b"x"


class TestReading:
    def test_ranges_come_in_the_order_asked_for(self, lake: Lake) -> None:
        lake.put_new("a", bytes(range(200)))
        file = lake.open("a")
        assert file.size == 200
        ranges = [(190, 200), (0, 1), (5, 10), (7, 12)]
        assert [bytes(one) for one in file.ranges(ranges)] == [bytes(range(*one)) for one in ranges]
        assert bytes(file.read()) == bytes(range(200))

    def test_a_range_behind_the_end_is_an_error_and_no_short_read(self, lake: Lake) -> None:
        lake.put_new("a", bytes(100))
        try:
            [one] = lake.get_ranges("a", [90], [110])
        except (TransientError, PermanentError):
            return
        assert len(one) == 10  # the caller sees that it is shorter than what was asked for

    def test_a_missing_object_is_named(self, lake: Lake) -> None:
        lake.put_new("a/b", b"")
        for read in (lake.get, lake.open, lambda path: lake.get_ranges(path, [0], [1])):
            for path in ("missing", "a/missing", "a"):
                with pytest.raises(ObjectMissingError):
                    read(path)


@pytest.mark.needs(StoreTrait.DURABLE)
class TestKills:
    def test_what_was_confirmed_is_there_after_the_store_was_killed(self, store: Any) -> None:
        with type(store)() as own:
            lake = Lake(own.create_bucket("lake"), own.config)
            assert lake.put_new("a", b"x" * 1000) is True
            own.kill()
            with pytest.raises(TransientError):
                lake.get("a")
            own.start()
            assert lake.put_new("a", b"y") is False
            assert bytes(lake.get("a")) == b"x" * 1000
