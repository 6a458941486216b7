"""Planning, sending, listing and following, as the how-to page has it."""

from __future__ import annotations

from contextlib import closing

from tests._archive import archive
from tests._replay import consumed
from tests.docs.conftest import Reader, archived_orders
from transforms import registry


def test_a_plan_and_a_selection_in_a_file_are_sent(reader: Reader) -> None:
    reader.kafka.create_topic("orders-replay")
    with closing(registry.index(reader.index).open(reader.index)) as index:
        archive(reader.lake, index, archived_orders(200, age=60))
    printed = reader.session.run("docs/how-to/resubmit.md", __file__)
    assert "COMPLETED" in printed
    # All 200, then those of version 2 whose customer's number begins with 1: 1, 11, 13, … 19.
    assert len(consumed(reader.kafka, "orders-replay")) == 200 + 6 * 4
