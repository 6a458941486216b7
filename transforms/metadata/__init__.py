"""Metadata messages, which carry the index entries of written files through a topic."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from transforms.errors import PermanentError
from transforms.metadata.dataphos import from_dataphos_metadata
from transforms.model import ENTRY_SCHEMA, HEADERS, MESSAGE_SCHEMA, WrittenFile

__all__ = ["VERSION_HEADER", "decode", "encode"]

VERSION_HEADER = "persistor-metadata"
"""Header of every metadata message; its value is the version, ``1``."""

_VERSION = b"1"
_LIMIT = 512 * 1024
_DAMAGE = (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError, KeyError)
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


def encode(file: WrittenFile) -> pa.Table:
    """The metadata messages of one file (``MESSAGE_SCHEMA``), each up to 512 KiB.

    Each is an Arrow IPC stream (zstd) of ``ENTRY_SCHEMA``. They may be indexed in any order, any number
    of times. All keys differ, because a compacted topic keeps only the last message of a key.
    """
    payloads = list(_payloads(file.entries))
    rows = len(payloads)
    ids = [f"{file.location}#{part}" for part in range(rows)]
    columns = {
        "id": ids,
        "topic": [""] * rows,
        "partition": [None] * rows,
        "offset": [None] * rows,
        "publish_time": [None] * rows,
        "key": [id.encode() for id in ids],
        "data": payloads,
        "headers": pa.array([[(VERSION_HEADER, _VERSION)]] * rows, HEADERS),
    }
    return pa.table(columns, schema=MESSAGE_SCHEMA)


def decode(data: bytes, headers: list[dict[str, object]]) -> pa.Table:
    """The entries (``ENTRY_SCHEMA``) of one metadata message.

    Also accepts the JSON that Dataphos Persistor publishes, with the metadata of one message each.

    Args:
        headers: the message's headers, as ``name`` and ``value``.

    Raises:
        PermanentError: it is neither, or its version is unknown to this release.
    """
    versions = [header["value"] for header in headers if header["name"] == VERSION_HEADER]
    if not versions:
        return from_dataphos_metadata(data)
    if versions[-1] != _VERSION:
        raise PermanentError(f"metadata of version {versions[-1]!r}: index it with a newer release")
    try:
        table = pa.ipc.open_stream(data).read_all()
        # A later release may add columns; those of version 1 stay what they are.
        table = table.select([name for name in ENTRY_SCHEMA.names if name in table.column_names])
        if not table.schema.equals(ENTRY_SCHEMA):
            raise PermanentError("not a metadata message: its columns differ from those of version 1")
        # Arrow trusts its input: a damaged length would crash the process.
        table.validate(full=True)
    except _DAMAGE as error:
        raise PermanentError(f"not a metadata message: {type(error).__name__}") from error
    return table


def _payloads(entries: pa.Table) -> Iterator[bytes]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ENTRY_SCHEMA, options=_OPTIONS) as writer:
        writer.write_table(entries)
    payload = sink.getvalue()
    if payload.size <= _LIMIT or len(entries) == 1:
        yield payload.to_pybytes()
        return
    half = len(entries) // 2
    yield from _payloads(entries.slice(0, half))
    yield from _payloads(entries.slice(half))
