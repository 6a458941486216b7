"""The marker: found and removed like a list of headers would, whatever else a message has."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from tests._messages import file_tables, row, table
from transforms.lake import Lake
from transforms.marking import MARKER, is_marked, unmarked
from transforms.model import Batch, Layout
from transforms.writing import BatchWriter

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


MARKED = [{"name": MARKER, "value": b"job"}]


def batch(lists: list[list[Any]], **more: Any) -> Batch:
    messages = table(*(row(offset=n, headers=headers) for n, headers in enumerate(lists)), sums=True)
    return Batch("marked", 1, 0, messages, "marked-0-0", Layout(), "count", **more)


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(name, {"source": "marked"}) or 0


def test_what_is_gone_from_a_claimed_range_counts_also_where_the_rest_is_left_out(lake: Lake) -> None:
    gone, skipped = counted("persistor_gap_messages_total"), counted("persistor_replayed_skipped_total")
    assert BatchWriter(lake, skip_replayed=True).write(batch([MARKED, MARKED], claimed=5)) == ([], [])
    assert counted("persistor_gap_messages_total") - gone == 3
    assert counted("persistor_replayed_skipped_total") - skipped == 2


def test_messages_that_are_left_out_are_no_dead_letters_either(lake: Lake) -> None:
    writer = BatchWriter(lake, dead_letters=True, skip_replayed=True)
    assert writer.write(batch([MARKED], given_up="the lake was away")) == ([], [])
    _, [letter] = writer.write(batch([MARKED, []], given_up="the lake was away"))
    assert letter.messages["offset"].to_pylist() == [1]
