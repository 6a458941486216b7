"""What every format of the lake keeps to; a new module of ``transforms.formats`` is bound by being there."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests._messages import file_tables, row, table
from transforms import registry
from transforms.errors import PermanentError
from transforms.formats._common import Bounds, bounds_of
from transforms.lake import Lake, ObjectMissingError
from transforms.model import FILE_SCHEMA

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=registry.names("formats"))
def codec(request: pytest.FixtureRequest) -> ModuleType:
    return registry.format_of(request.param)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(f"file://{tmp_path}/lake")


def header(name: str, value: bytes | None) -> dict[str, object]:
    return {"name": name, "value": value}


CASES = {
    "empty key and data": row(key=b"", data=b""),
    "null key and data": row(key=None, data=None),
    "null and empty header values": row(headers=[header("a", None), header("a", b""), header("", None)]),
    "repeated headers in order": row(headers=[header("b", b"2"), header("a", b"1"), header("b", b"1")]),
    "binary key, data and header values": row(
        key=b"\xff\xfe", data=bytes(range(256)), headers=[header("x", b"\xc3\x28")]
    ),
    "NUL and newlines": row(key=b"\0\n", data=b"\n\r\0", headers=[header("a\0b\n", b"\0")], id="t\n\0"),
    "text that looks like something else": row(
        data=b'{"base64": "x"}', key=b"null", headers=[header("a", b"1")]
    ),
    "900 kB": row(data=random.Random(7).randbytes(900_000)),
    "before 1970": row(publish_time=-1),
    "far times": row(publish_time=253_402_300_800_000_000),
    "farther times": row(publish_time=-(2**63)),
    "the last time": row(publish_time=2**63 - 1),
    "nothing known": row(id=None, partition=None, offset=None, publish_time=None, checksum=None),
    "largest numbers": row(partition=2**31 - 1, offset=2**63 - 1, checksum=-(2**63)),
}


def microseconds(messages: pa.Table) -> pa.Table:
    """Times as numbers, since Python cannot print all of them."""
    index = FILE_SCHEMA.get_field_index("publish_time")
    return messages.set_column(index, "publish_time", messages["publish_time"].cast(pa.int64()))


def assert_same(actual: pa.Table, expected: pa.Table) -> None:
    assert actual.schema == FILE_SCHEMA
    assert microseconds(actual).to_pylist() == microseconds(expected).to_pylist()


def many(count: int = 5_000) -> pa.Table:
    payload = random.Random(3)
    rows = [
        row(
            id=f"t_0_{i}",
            offset=i,
            key=b"k%d" % i,
            data=payload.randbytes(800),
            headers=[header("i", b"%d" % i)],
        )
        for i in range(count)
    ]
    return table(*rows, sums=True)


class InMemory:
    """A lake file of bytes that counts what is asked of it."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self.asked: list[tuple[int, int]] = []
        self._data = data

    def read(self) -> memoryview:
        self.asked.append((0, self.size))
        return memoryview(self._data)

    def ranges(self, ranges: list[tuple[int, int]]) -> list[memoryview]:
        self.asked.extend(ranges)
        return [memoryview(self._data)[start:end] for start, end in ranges]


MANY = many()
ENCODED: dict[str, bytes] = {}


def microseconds_of(text: str) -> int:
    return int(np.datetime64(text, "us").astype(np.int64))


class TestContents:
    @pytest.mark.parametrize("case", CASES)
    def test_each_message_comes_back_as_it_was(self, codec: ModuleType, case: str) -> None:
        messages = table(CASES[case], row())
        assert_same(codec.decode(codec.encode(messages)), messages)

    def test_all_kinds_of_messages_in_one_file_come_back_as_they_were(self, codec: ModuleType) -> None:
        messages = table(*CASES.values())
        assert_same(codec.decode(codec.encode(messages)), messages)

    def test_no_messages_come_back_as_none(self, codec: ModuleType) -> None:
        assert_same(codec.decode(codec.encode(table())), table())

    def test_header_names_that_are_not_utf8_are_kept(self, codec: ModuleType) -> None:
        names, values = pa.array([b"\xff\x00", b"ok"]).view(pa.string()), pa.array([b"1", None])
        kind = FILE_SCHEMA.field("headers").type
        items = pa.StructArray.from_arrays([names, values], fields=list(kind.value_type))
        lists = pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), items, type=kind)
        messages = table(row()).set_column(7, FILE_SCHEMA.field("headers"), lists)
        found = codec.decode(codec.encode(messages))["headers"].combine_chunks().flatten().field(0)
        assert found.cast(pa.binary()).to_pylist() == [b"\xff\x00", b"ok"]

    @FEW
    @given(messages=file_tables())
    def test_any_message_comes_back_as_it_was(self, codec: ModuleType, messages: pa.Table) -> None:
        assert_same(codec.decode(codec.encode(messages)), messages)


class TestBytes:
    @FEW
    @given(messages=file_tables())
    def test_equal_rows_give_equal_bytes(self, codec: ModuleType, messages: pa.Table) -> None:
        rebuilt = pa.Table.from_pylist(microseconds(messages).to_pylist(), schema=FILE_SCHEMA)
        assert bytes(codec.encode(messages)) == bytes(codec.encode(rebuilt))
        assert bytes(codec.encode(codec.decode(codec.encode(messages)))) == bytes(codec.encode(messages))

    def test_slices_and_chunks_do_not_show_in_the_bytes(self, codec: ModuleType) -> None:
        whole = many()
        chunked = pa.concat_tables([whole.slice(0, 7), whole.slice(7, 3000), whole.slice(3007)])
        assert bytes(codec.encode(chunked)) == bytes(codec.encode(whole))
        part = pa.Table.from_batches([whole.slice(100, 3000).combine_chunks().to_batches()[0]])
        assert bytes(codec.encode(part)) == bytes(codec.encode(whole.take(list(range(100, 3100)))))


class TestRows:
    @pytest.mark.parametrize("count", [3, 5_000])
    def test_rows_are_read_by_position(self, codec: ModuleType, lake: Lake, count: int) -> None:
        messages = many(count)
        lake.put_new("f", codec.encode(messages))
        for rows in ([0], [count - 1], [0, 1, count - 1], range(1, count), range(count), []):
            positions = np.array(rows, np.int64)
            assert_same(codec.read_rows(lake.open("f"), positions), messages.take(pa.array(positions)))

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(rows=st.sets(st.integers(0, 4_999), max_size=50))
    def test_any_rows_are_read_by_position(self, codec: ModuleType, rows: set[int]) -> None:
        file = InMemory(ENCODED.setdefault(codec.__name__, bytes(codec.encode(MANY))))
        positions = np.array(sorted(rows), np.int64)
        assert_same(codec.read_rows(file, positions), MANY.take(pa.array(positions)))

    def test_a_position_behind_the_last_row_is_refused(self, codec: ModuleType, lake: Lake) -> None:
        lake.put_new("small", codec.encode(many(3)))
        lake.put_new("large", codec.encode(MANY))
        for path, row_behind in (("small", 3), ("large", 5_000)):
            with pytest.raises(
                PermanentError, match=f"row {row_behind} was requested, but the file has {row_behind}"
            ):
                codec.read_rows(lake.open(path), np.array([0, row_behind]))

    def test_a_file_that_is_not_there_is_reported(self, codec: ModuleType, lake: Lake) -> None:
        with pytest.raises(ObjectMissingError):
            codec.read_rows(lake.open("nothing"), np.array([0]))


class TestBounds:
    @FEW
    @given(messages=file_tables())
    def test_the_bounds_of_any_file_are_those_of_its_messages(
        self, codec: ModuleType, messages: pa.Table
    ) -> None:
        assert codec.bounds(InMemory(bytes(codec.encode(messages)))) == bounds_of(messages)

    def test_the_bounds_of_a_large_file_are_those_of_its_messages(self, codec: ModuleType) -> None:
        assert codec.bounds(InMemory(bytes(codec.encode(MANY)))) == Bounds(5_000, 0, "t_0_0", 0, 0)

    def test_bounds_that_a_message_lacks_are_not_stored(self, codec: ModuleType) -> None:
        lacking = table(row(), CASES["nothing known"])
        assert codec.bounds(InMemory(bytes(codec.encode(lacking)))) == Bounds(2)


class TestDamage:
    @pytest.mark.parametrize(
        "data", [b"", b"x", b"\0" * 100, b"PAR1", b"PAR1PAR1", b"Obj\x01", b"{}\n", b"[]\n"]
    )
    def test_what_is_not_of_the_format_is_refused(self, codec: ModuleType, data: bytes) -> None:
        with pytest.raises(PermanentError, match="not a whole"):
            codec.decode(data)

    @FEW
    @given(data=st.binary(max_size=200))
    def test_garbage_is_refused(self, codec: ModuleType, data: bytes) -> None:
        if data != b"\n":
            with pytest.raises(PermanentError):
                codec.decode(data)

    @settings(FEW, max_examples=150)
    @given(cut=st.floats(0, 1, exclude_max=True), count=st.integers(0, 5))
    def test_a_truncated_file_is_refused(self, codec: ModuleType, cut: float, count: int) -> None:
        whole = bytes(codec.encode(table(*list(CASES.values())[:count], sums=True)))
        with pytest.raises(PermanentError):
            codec.decode(whole[: int(cut * len(whole))])

    def test_every_truncation_is_refused(self, codec: ModuleType) -> None:
        whole = bytes(codec.encode(table(row(data=b"a"), row(key=b"b", headers=[header("c", b"d")]))))
        for end in range(len(whole)):
            with pytest.raises(PermanentError):
                codec.decode(whole[:end])

    @settings(FEW, max_examples=80)
    @given(
        damage=st.lists(
            st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4
        )
    )
    def test_flipped_bytes_are_refused_or_give_a_valid_table(
        self, codec: ModuleType, damage: list[tuple[float, int]]
    ) -> None:
        data = bytearray(codec.encode(table(*(case for name, case in CASES.items() if name != "900 kB"))))
        for place, flip in damage:
            data[int(place * len(data))] ^= flip
        try:
            found = codec.decode(bytes(data))
        except PermanentError:
            return
        assert found.schema == FILE_SCHEMA
        found.validate()

    def test_a_truncated_file_is_refused_when_rows_are_read(self, codec: ModuleType) -> None:
        whole = bytes(codec.encode(MANY))
        for length in (0, 5, len(whole) // 2, len(whole) - 1):
            with pytest.raises(PermanentError):
                codec.read_rows(InMemory(whole[:length]), np.array([0, 4_999]))
            with pytest.raises(PermanentError):
                codec.bounds(InMemory(whole[:length]))


class TestParquet:
    def test_one_message_of_a_large_parquet_file_takes_the_footer_and_one_row_group(self) -> None:
        parquet = registry.format_of("parquet")
        file = InMemory(bytes(parquet.encode(many(15_000))))
        assert file.size > 10_000_000
        assert parquet.read_rows(file, np.array([7_000]))["offset"].to_pylist() == [7_000]
        assert len(file.asked) == 2
        assert sum(end - start for start, end in file.asked) < 2_300_000

    def test_a_small_parquet_file_takes_one_request(self) -> None:
        parquet = registry.format_of("parquet")
        file = InMemory(bytes(parquet.encode(many(1000))))
        parquet.read_rows(file, np.array([5]))
        assert file.asked == [(0, file.size)]

    def test_the_bounds_of_a_large_parquet_file_take_its_end_alone(self) -> None:
        parquet = registry.format_of("parquet")
        file = InMemory(bytes(parquet.encode(MANY)))
        parquet.bounds(file)
        assert file.asked == [(file.size - 65_536, file.size)]


class TestDuckDB:
    def test_duckdb_reads_what_lies_in_a_lake(self, tmp_path: Path) -> None:
        times = [microseconds_of("2026-11-01T10:00:00.000001"), None]
        messages = table(*(row(publish_time=time, data=b"abc", key=None) for time in times))
        directory = tmp_path / "topic-a" / "date=2026-11-01"
        directory.mkdir(parents=True)
        for name in ("parquet", "jsonl"):
            (directory / f"x.{name}").write_bytes(registry.format_of(name).encode(messages))
        columns = "topic, data::varchar, key, publish_time::timestamp::varchar, len(headers), date::varchar"
        for reader in ("read_parquet('{}/**/*.parquet')", "read_json('{}/**/*.jsonl')"):
            query = f"select {columns} from {reader.format(tmp_path)} order by publish_time"
            assert duckdb.sql(query).fetchall() == [
                ("t", "abc", None, "2026-11-01 10:00:00.000001", 0, "2026-11-01"),
                ("t", "abc", None, None, 0, "2026-11-01"),
            ]

    def test_duckdb_counts_any_messages_in_parquet(self, tmp_path: Path) -> None:
        (tmp_path / "x.parquet").write_bytes(registry.format_of("parquet").encode(table(*CASES.values())))
        query = f"select count(*), count(key), max(octet_length(data)) from '{tmp_path}/x.parquet'"
        keys = sum(case["key"] is not None for case in CASES.values())
        assert duckdb.sql(query).fetchall() == [(len(CASES), keys, 900_000)]
