"""Parquet, the default format: compressed columns for query engines, read by us row group by row group.

Pages have Parquet's own CRC. The footer has none, and a damaged footer can crash the process inside
Arrow. Its CRC-32 (little endian) is therefore stored in the four bytes before it, which other readers
ignore. The footer says where the data before that ends: another tool that
writes the file again may copy that word, but not make it true, and its footer is taken as it is.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import PermanentError
from transforms.formats._common import Bounds, Rows, bounds_of_whole, check_rows, damage
from transforms.lake import LakeFile
from transforms.model import FILE_SCHEMA

__all__ = ["bounds", "decode", "encode", "read_rows"]

_MIB = 1024 * 1024
# A row group is read and decompressed to get one message.
_ROW_GROUP_BYTES = _MIB
# Below this size a second request takes longer than the bytes it would save.
_SMALL_FILE = _MIB
_TAIL = 64 * 1024
_END, _CRC = 8, 4
_DATA_END = "persistor.data_end"
_SAID = re.compile(_DATA_END.encode() + rb"\x18.(\d+)", re.DOTALL)
_REPEATING = ["topic", "partition", "headers.list.element.name", "headers.list.element.value"]
# Bounds of payloads help no query and can be as large as the payloads.
_WITH_BOUNDS = ["id", "topic", "partition", "offset", "publish_time"]
_BOUNDED = ["id", "partition", "offset", "publish_time"]
_ERRORS = (OSError, ValueError, KeyError, MemoryError)


def _numbered(field: pa.Field, number: int) -> pa.Field:
    return field.with_metadata({"PARQUET:field_id": str(number)})


def _with_field_ids() -> pa.Schema:
    """The columns with the numbers by which tables of lakes know them, whatever their names."""
    columns = [_numbered(field, number) for number, field in enumerate(FILE_SCHEMA, 1)]
    headers = FILE_SCHEMA.names.index("headers")
    item = FILE_SCHEMA.field(headers).type.value_field
    name, value = item.type
    element = _numbered(item, 10).with_type(pa.struct([_numbered(name, 11), _numbered(value, 12)]))
    columns[headers] = columns[headers].with_type(pa.list_(element))
    return pa.schema(columns)


_SCHEMA = _with_field_ids()


def encode(table: pa.Table) -> bytes:
    """See :mod:`transforms.formats`. Row groups hold about 1 MiB, pages have a CRC."""
    # One chunk each, because chunks would change the pages.
    whole = pa.table(table.combine_chunks().columns, schema=_SCHEMA)
    groups = max(1, -(-whole.nbytes // _ROW_GROUP_BYTES))
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        _SCHEMA,
        compression="zstd",
        compression_level=1,
        use_dictionary=_REPEATING,
        write_statistics=_WITH_BOUNDS,
        write_page_checksum=True,
        store_schema=False,
    ) as writer:
        writer.write_table(whole, row_group_size=max(1, -(-len(whole) // groups)))
        writer.add_key_value_metadata({_DATA_END: str(sink.tell())})
    data = memoryview(sink.getvalue())
    start = _footer_start(data)
    return b"".join([data[:start], _crc(data, start), data[start:]])


def decode(data: bytes | memoryview | pa.Buffer) -> pa.Table:
    """See :mod:`transforms.formats`."""
    with damage("Parquet", *_ERRORS):
        return _typed(_open(memoryview(data)).read())


def read_rows(file: LakeFile, rows: Rows) -> pa.Table:
    """See :mod:`transforms.formats`. Decodes only the needed row groups; reads only those from 1 MiB on."""
    small = file.size < _SMALL_FILE
    # Zeroed memory is allocated only when written to, so the gaps cost nothing.
    data = np.frombuffer(file.read(), np.uint8) if small else np.zeros(file.size, np.uint8)
    with damage("Parquet", *_ERRORS):
        if not small:
            _fetch_footer(file, data)
        parquet = _open(data.data)
    check_rows(rows, parquet.metadata.num_rows)
    counts = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    wanted = np.unique(np.searchsorted(starts, rows, side="right") - 1)
    if not small:
        _fetch(file, data, [_extent(parquet.metadata.row_group(int(group))) for group in wanted])
    with damage("Parquet", *_ERRORS):
        # Threads cost more than they save if a single row group is read for a message or two.
        table = parquet.read_row_groups(wanted.tolist(), use_threads=len(wanted) > 1)
        return _typed(table.take(pa.array(_positions(rows, starts, wanted))))


def bounds(file: LakeFile) -> Bounds:
    """See :mod:`transforms.formats`. Reads only the footer, in one or two requests."""
    data = np.zeros(file.size, np.uint8)
    with damage("Parquet", *_ERRORS):
        _fetch_footer(file, data)
        parquet = _open(data.data)
        metadata = parquet.metadata
        if _says_bounds(parquet):
            newest = _bound(metadata, "publish_time", "max_raw", max)
            lowest = {name: _bound(metadata, name, "min", min) for name in ("id", "partition", "offset")}
            return Bounds(metadata.num_rows, newest, **lowest)
    return bounds_of_whole(file, decode)  # another tool wrote it


def _says_bounds(parquet: pq.ParquetFile) -> bool:
    """Whether each row group has the statistics of our columns, in our types."""
    schema, metadata = parquet.schema_arrow, parquet.metadata
    if any(schema.field(name).type != FILE_SCHEMA.field(name).type for name in _BOUNDED):
        return False
    said = (one for name in _BOUNDED for one in _statistics(metadata, name))
    return all(one is not None and (one.has_min_max or one.null_count) for one in said)


def _bound(metadata: pq.FileMetaData, name: str, side: str, of: Callable[[list[Any]], Any]) -> Any:
    """A bound of a column over all row groups; None where a row has no value."""
    said = _statistics(metadata, name)
    if not said or any(one.null_count for one in said):
        return None
    return of([getattr(one, side) for one in said])


def _statistics(metadata: pq.FileMetaData, name: str) -> list[Any]:
    """Of a column in each row group."""
    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    column = names.index(name)
    return [metadata.row_group(i).column(column).statistics for i in range(metadata.num_row_groups)]


def _open(data: memoryview) -> pq.ParquetFile:
    start = _footer_start(data)
    if start < _CRC or (_is_ours(data, start) and _crc(data, start) != data[start - _CRC : start]):
        raise PermanentError("not a whole Parquet file of messages (its footer is damaged)")
    return pq.ParquetFile(
        pa.BufferReader(pa.py_buffer(data)),
        page_checksum_verification=True,
        coerce_int96_timestamp_unit="us",  # Spark's, which reach as far only so
    )


def _is_ours(data: memoryview, start: int) -> bool:
    """Whether the footer belongs to what stands before it, as nobody else would write it."""
    said = _SAID.search(data[start:-_END])
    return said is not None and int(said[1]) == start - _CRC


def _crc(data: memoryview, start: int) -> bytes:
    return zlib.crc32(data[start:-_END]).to_bytes(_CRC, "little")


def _footer_start(data: memoryview) -> int:
    return len(data) - _END - int.from_bytes(data[-_END:][:4], "little")


def _typed(table: pa.Table) -> pa.Table:
    """Our columns; other tools may have added theirs, moved ours, or chosen wider types."""
    if missing := set(FILE_SCHEMA.names).difference(table.column_names):
        raise PermanentError(f"a Parquet file without Persistor's columns {', '.join(sorted(missing))}")
    return table.select(FILE_SCHEMA.names).cast(FILE_SCHEMA)


def _fetch_footer(file: LakeFile, sparse: npt.NDArray[np.uint8]) -> None:
    tail = max(0, file.size - _TAIL)
    _fetch(file, sparse, [(tail, file.size)])
    start = _footer_start(sparse.data) - _CRC
    if 0 <= start < tail:
        _fetch(file, sparse, [(start, tail)])


def _fetch(file: LakeFile, sparse: npt.NDArray[np.uint8], ranges: Sequence[tuple[int, int]]) -> None:
    for (start, end), data in zip(ranges, file.ranges(ranges), strict=True):
        sparse[start:end] = np.frombuffer(data, np.uint8)


def _extent(group: pq.RowGroupMetaData) -> tuple[int, int]:
    columns = [group.column(i) for i in range(group.num_columns)]
    starts = [column.dictionary_page_offset or column.data_page_offset for column in columns]
    return min(starts), max(
        start + column.total_compressed_size for start, column in zip(starts, columns, strict=True)
    )


def _positions(rows: Rows, starts: Rows, wanted: Rows) -> Rows:
    """The positions of rows in a table of only the wanted row groups."""
    sizes = np.diff(starts)[wanted]
    moved = starts[wanted] - (np.cumsum(sizes) - sizes)
    return rows - np.repeat(moved, np.diff([*np.searchsorted(rows, starts[wanted]), len(rows)]))
