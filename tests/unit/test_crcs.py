"""Checksums of values in C are those of zlib, and those of Python where the extension was not built."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests._messages import file_tables
from transforms import _columns
from transforms.entries import checksums

_VALUES = st.lists(st.one_of(st.none(), st.binary(max_size=40)), max_size=30)


def test_it_is_used_here() -> None:
    assert _columns._EXTENSION is not None


@given(_VALUES, st.integers(0, 30), st.integers(0, 30))
def test_each_value_of_any_slice_has_the_checksum_of_zlib(
    values: list[bytes | None], start: int, end: int
) -> None:
    array = pa.array(values, pa.binary())[start:end]
    expected = [zlib.crc32(value or b"") for value in values[start:end]]
    assert _columns.parts(array).crcs().tolist() == expected


def test_every_length_has_the_checksum_of_zlib() -> None:
    values = [bytes(n * 37 % 256 for n in range(length)) for length in range(600)]
    assert _columns.parts(pa.array(values)).crcs().tolist() == list(map(zlib.crc32, values))


@given(file_tables())
def test_messages_have_the_same_checksums_without_it(messages: pa.Table) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_columns, "_EXTENSION", None)
        expected = checksums(messages)
    assert checksums(messages).equals(expected)


@pytest.mark.parametrize(
    ("ends", "first", "count"),
    [
        ([0, 2], 0, 2),
        ([0, 5], 0, 1),
        ([2, 1], 0, 1),
        ([-1, 1], 0, 1),
        ([0, 2], -1, 1),
        ([0, 2], 2, 1),
        ([], 0, 1),
    ],
)
def test_buffers_that_hold_other_values_are_refused(ends: list[int], first: int, count: int) -> None:
    out = np.zeros(count, np.uint64)
    assert _columns._EXTENSION is not None
    with pytest.raises(ValueError, match="do not hold"):
        _columns._EXTENSION.crcs(struct.pack(f"={len(ends)}i", *ends), b"abc", first, out)
