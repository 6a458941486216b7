"""The marker: found and removed like a list of headers would, whatever else a message has."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tests._messages import file_tables, row, table
from transforms.marking import MARKER, is_marked, unmarked

NAMES, VALUES = st.sampled_from([MARKER, "a", "Persistor-Replay"]), st.sampled_from([None, b"", b"x"])
HEADERS = st.lists(st.fixed_dictionaries({"name": NAMES, "value": VALUES}), max_size=4)


@given(st.lists(HEADERS, max_size=6), st.integers(0, 6))
def test_markers_are_found_and_removed_and_nothing_else(lists: list[list[Any]], cut: int) -> None:
    messages = table(*(row(headers=headers) for headers in lists)).slice(cut)
    kept = [[one for one in headers if one["name"] != MARKER] for headers in lists[cut:]]
    assert unmarked(messages)["headers"].to_pylist() == kept
    assert is_marked(messages).tolist() == [len(a) != len(b) for a, b in zip(lists[cut:], kept, strict=True)]


@given(file_tables())
def test_a_message_without_marker_stays_as_it_is(messages: pa.Table) -> None:
    assert unmarked(messages).equals(messages)
