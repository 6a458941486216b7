"""Files in Arrow's own stream format."""

from __future__ import annotations

import pyarrow as pa

from transforms.formats import Bounds, Rows
from transforms.formats._common import bounds_of_whole, checked, damage, take
from transforms.lake import LakeFile

__all__ = ["bounds", "decode", "encode", "read_rows"]


def encode(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return sink.getvalue()


def decode(data: bytes | memoryview | pa.Buffer) -> pa.Table:
    with damage("toyformat"):
        return checked(pa.ipc.open_stream(pa.py_buffer(data)).read_all())


def read_rows(file: LakeFile, rows: Rows) -> pa.Table:
    return take(decode(file.read()), rows)


def bounds(file: LakeFile) -> Bounds:
    return bounds_of_whole(file, decode)
