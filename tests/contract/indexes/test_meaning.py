"""What a selection means to every index store: what the Arrow filter means by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from tests._entries import entry_tables, selections, table
from tests.contract.indexes._rows import ids, in_order, pages
from transforms import registry
from transforms.indexes import Index
from transforms.selection import Selection, parse_selection

REPLAY_ORDER = "source", "incarnation", "partition", "offset", "id"


@pytest.fixture(scope="module")
def emptied(new_url: Callable[[], str]) -> Iterator[Callable[[], Index]]:
    url = new_url()
    index = registry.index(url).open(url)
    yield lambda: _emptied(index)
    index.close()


class TestOneMeaning:
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(entries=entry_tables(), value=selections())
    def test_the_store_selects_what_the_arrow_filter_selects(
        self, emptied: Callable[[], Index], entries: pa.Table, value: dict[str, Any]
    ) -> None:
        index, selection = emptied(), Selection.model_validate(value)
        index.insert(entries)
        expected = entries.filter(selection.filter(entries))
        assert ids(index.select(selection, ["id"])) == in_order(expected, *REPLAY_ORDER)["id"].to_pylist()
        found = [row for page in pages(index, selection, 3) for row in page.to_pylist()]
        assert table(*found) == in_order(expected, "publish_time", "id")
        summary = index.summarize(selection)
        assert sum(source.messages for source in summary) == len(expected)
        assert sum(source.bytes for source in summary) == sum(expected["size"].to_pylist())
        assert parse_selection(selection.to_json()) == selection


def _emptied(index: Any) -> Index:
    if hasattr(index, "_messages"):
        index._messages.delete_many({})
    else:
        with index._connections.transaction() as connection:
            connection.execute("DELETE FROM entries")
    return index
