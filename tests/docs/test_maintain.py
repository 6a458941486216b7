"""The how-to page of maintenance: claims are folded, and the cost of what is there is shown."""

from __future__ import annotations

from pathlib import Path

from tests.docs._blocks import Session
from tests.unit.test_expire_claims import archived
from tests.unit.test_maintain import folded
from transforms.indexes import Index
from transforms.lake import Lake


def test_old_claims_are_folded_and_the_cost_is_shown(lake: Lake, index: Index, tmp_path: Path) -> None:
    archived(lake, index, 30)
    printed = Session(tmp_path, {"s3://archive/kafka": lake.url}).run("docs/how-to/maintain.md", __file__)
    assert len(folded(lake, "orders")) == 29
    assert "after (cost)" in printed
