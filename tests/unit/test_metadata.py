"""Metadata messages that arrive damaged, or were made to do harm."""

from __future__ import annotations

import random
from datetime import datetime, timezone

from tests._messages import row, table
from transforms import metadata
from transforms.entries import entries
from transforms.errors import PermanentError
from transforms.model import ENTRY_SCHEMA, WrittenFile

_TIME = datetime(2024, 1, 1, tzinfo=timezone.utc)


def _message() -> tuple[bytes, list[dict[str, object]]]:
    rows = (row(id=f"s_0_{n}", offset=n, key=b"k", headers=[("a", b"%d" % n)]) for n in range(50))
    made = table(*rows, sums=True)
    file = WrittenFile(
        "file:///lake/a.parquet", "s", 1, len(made), 1, entries(made, "file:///lake/a.parquet", _TIME)
    )
    [message] = metadata.encode(file).to_pylist()
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
