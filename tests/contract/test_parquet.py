"""Parquet beside what every format does: numbers of fields, and files that another tool has written again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests._messages import row, table
from transforms.errors import PermanentError
from transforms.formats import parquet
from transforms.lake import Lake
from transforms.model import FILE_SCHEMA

_MESSAGES = table(
    *(
        row(
            id=f"orders_0_{n}",
            offset=n,
            key=None if n % 3 else b"k\xff",
            data=None if n % 5 == 4 else b"x" * n,
            headers=[("a", b"1"), ("a", None)][: n % 3],
        )
        for n in range(3000)
    ),
    sums=True,
)


def _pyarrow(old: Path, new: Path) -> None:
    pq.write_table(pq.read_table(old), new)


def _other_types(old: Path, new: Path) -> None:
    moved = pq.read_table(old).select([*reversed(FILE_SCHEMA.names)])
    wider = [
        column.cast(
            {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}.get(column.type, column.type)
        )
        for column in moved.columns
    ]
    more = pa.table(wider, moved.column_names).append_column("hour", pa.array([1] * len(moved)))
    pq.write_table(more, new, compression="snappy", row_group_size=700, write_statistics=False)


def _as_spark(old: Path, new: Path) -> None:
    pq.write_table(pq.read_table(old), new, use_deprecated_int96_timestamps=True, row_group_size=1000)


def _duckdb(old: Path, new: Path) -> None:
    duckdb.sql(f"copy (select * from read_parquet('{old}')) to '{new}' (format parquet, row_group_size 2048)")


@pytest.fixture(params=[_pyarrow, _other_types, _as_spark, _duckdb])
def rewritten(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """A lake with one file that another tool has written again."""
    rewrite: Callable[[Path, Path], None] = request.param
    (tmp_path / "lake").mkdir()
    (tmp_path / "ours.parquet").write_bytes(parquet.encode(_MESSAGES))
    rewrite(tmp_path / "ours.parquet", tmp_path / "lake" / "a.parquet")
    return Lake(f"file://{tmp_path}/lake")


def test_a_file_that_another_tool_wrote_again_is_read(rewritten: Lake) -> None:
    assert parquet.decode(rewritten.get("a.parquet")).equals(_MESSAGES)
    rows = np.array([0, 5, 699, 700, 2999])
    file = rewritten.open("a.parquet")
    assert parquet.read_rows(file, rows).equals(_MESSAGES.take(pa.array(rows)))
    assert parquet.bounds(file) == parquet.bounds(_ours(rewritten))


def _ours(lake: Lake) -> parquet.LakeFile:
    lake.put_new("ours.parquet", parquet.encode(_MESSAGES))
    return lake.open("ours.parquet")


def test_what_another_tool_wrote_again_is_checked_where_it_can_be(rewritten: Lake) -> None:
    whole = bytes(rewritten.get("a.parquet"))
    for cut in (0, 8, len(whole) // 2, len(whole) - 1):
        with pytest.raises(PermanentError):
            parquet.decode(whole[:cut])


def test_our_own_footer_is_checked_byte_by_byte() -> None:
    whole = bytearray(parquet.encode(_MESSAGES.slice(0, 3)))
    start = parquet._footer_start(memoryview(whole))
    marked = range(*parquet._SAID.search(whole).span())  # type: ignore[union-attr]
    for place in set(range(start, len(whole) - 8)) - set(marked):
        whole[place] ^= 1
        with pytest.raises(PermanentError, match="its footer is damaged"):
            parquet.decode(bytes(whole))
        whole[place] ^= 1


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    pq.write_table(_MESSAGES.drop_columns(["checksum", "id"]), tmp_path / "a.parquet")
    with pytest.raises(PermanentError, match="without Persistor's columns checksum, id"):
        parquet.decode((tmp_path / "a.parquet").read_bytes())


def test_fields_have_the_numbers_by_which_tables_know_them() -> None:
    file = pq.ParquetFile(pa.BufferReader(parquet.encode(_MESSAGES)))
    numbers = {field.name: _number(field) for field in file.schema_arrow}
    assert numbers == {name: place for place, name in enumerate(FILE_SCHEMA.names, 1)}
    element = file.schema_arrow.field("headers").type.value_field
    assert (element.name, _number(element)) == ("element", 10)
    assert {field.name: _number(field) for field in element.type} == {"name": 11, "value": 12}


def _number(field: pa.Field) -> int:
    return int(field.metadata[b"PARQUET:field_id"])


def test_time_position_and_topic_have_statistics_in_every_row_group() -> None:
    metadata = pq.ParquetFile(pa.BufferReader(parquet.encode(_MESSAGES))).metadata
    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    for group in range(metadata.num_row_groups):
        for name in ("publish_time", "offset", "topic"):
            assert metadata.row_group(group).column(names.index(name)).statistics.has_min_max
