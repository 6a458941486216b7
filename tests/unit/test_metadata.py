"""Metadata messages that arrive damaged, or were made to do harm."""

from __future__ import annotations

import random
from datetime import datetime, timezone

import pyarrow as pa
import pytest

from tests._messages import row, table
from transforms import metadata
from transforms.entries import entries
from transforms.errors import PermanentError
from transforms.model import ENTRY_SCHEMA, WrittenFile

_TIME = datetime(2024, 1, 1, tzinfo=timezone.utc)


def _file() -> WrittenFile:
    rows = (row(id=f"s_0_{n}", offset=n, key=b"k", headers=[("a", b"%d" % n)]) for n in range(50))
    made = table(*rows, sums=True)
    return WrittenFile(
        "file:///lake/a.parquet", "s", 1, len(made), 1, entries(made, "file:///lake/a.parquet", _TIME)
    )


def _message() -> tuple[bytes, list[dict[str, object]]]:
    [message] = metadata.encode(_file()).to_pylist()
    return message["data"], message["headers"]


def test_a_damaged_message_is_refused_and_ends_no_process() -> None:
    data, headers = _message()
    chance, read = random.Random(7), 0
    for _ in range(1000):
        damaged = bytearray(data)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        try:
            found = metadata.decode(bytes(damaged), headers)
        except PermanentError:
            continue
        assert found.schema.equals(ENTRY_SCHEMA)
        found.to_pylist()
        read += 1
    assert read < 1000


def test_a_message_that_is_whole_is_read() -> None:
    assert len(metadata.decode(*_message())) == 50


def test_a_compacted_topic_keeps_every_part_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "_LIMIT", 2048)
    parts = metadata.encode(_file()).to_pylist()
    assert len(parts) > 1
    kept = {part["key"]: part for part in [*parts, *metadata.encode(_file()).to_pylist()]}
    assert list(kept) == [b"file:///lake/a.parquet#%d" % number for number in range(len(parts))]
    found = pa.concat_tables(metadata.decode(part["data"], part["headers"]) for part in kept.values())
    assert found.equals(_file().entries)


def test_a_column_of_a_later_release_is_ignored() -> None:
    data, headers = _message()
    entries = metadata.decode(data, headers)
    sink = pa.BufferOutputStream()
    more = entries.append_column("later", pa.array(range(len(entries))))
    with pa.ipc.new_stream(sink, more.schema) as writer:
        writer.write_table(more)
    assert metadata.decode(sink.getvalue().to_pybytes(), headers).equals(entries)
