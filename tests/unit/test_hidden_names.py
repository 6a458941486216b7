"""Names that begin with ``_`` or ``.`` are hidden by readers of lakes: none is written any more."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests._messages import row, table
from transforms.lake import Lake
from transforms.layout import Template, file_path
from transforms.model import Batch, Layout
from transforms.reading.claims import Chain, Claims
from transforms.writing import BatchWriter

_TEMPLATES = st.sampled_from(
    [
        "{topic}",
        "{key}",
        "{topic}/date={date}",
        "{key}/{header[a]}",
        "{key}{header[a]}/x",
        "{partition}/{key}",
    ]
)
_VALUES = st.one_of(st.none(), st.binary(max_size=40), st.text("_.ab", max_size=6).map(str.encode))


@settings(max_examples=300, deadline=None)
@given(
    _TEMPLATES, st.text("_.ab%/", max_size=8), st.lists(_VALUES, min_size=1, max_size=4), st.integers(1, 2)
)
def test_no_component_hides_a_file(path: str, topic: str, values: list[bytes | None], naming: int) -> None:
    messages = table(*(row(key=v, headers=[{"name": "a", "value": v}]) for v in values))
    found = [one for one, _ in Template.parse(path).render(messages, topic, naming)]
    names = [file_path(one, f"{topic}-0-1", "parquet", naming) for one in found]
    assert len(set(names)) == len(names)
    if naming == 2:
        assert [part for name in names for part in name.split("/") if part[0] in "._"] == []


@settings(max_examples=100, deadline=None)
@given(st.text("_.ab%", min_size=1, max_size=8), st.text("_.ab%", min_size=1, max_size=8))
def test_different_topics_stay_apart(one: str, other: str) -> None:
    paths = {
        file_path(Template.parse("{topic}").render(table(row()), topic)[0][0], topic, "avro")
        for topic in (one, other)
    }
    assert len(paths) == len({one, other})


def test_a_literal_that_somebody_chose_stays_as_it_is() -> None:
    assert Template.parse("_raw/{topic}").render(table(row()), "_a") == [("_raw/%5Fa", None)]


@pytest.mark.parametrize("topic", ["_schemas", ".hidden", "__", "_persistor"])
def test_pyarrow_reads_what_was_archived(lake: Lake, topic: str) -> None:
    messages = table(row(id=f"{topic}_0_0", topic=topic, key=b"_k"), row(topic=topic, key=None), sums=True)
    batch = Batch(topic, 1, 0, messages, f"{topic}-0-0", Layout("{topic}/{key}"), "count")
    files, _ = BatchWriter(lake).write(batch)
    assert len(files) == 2
    root = Path(lake.url.removeprefix("file://"))
    assert ds.dataset(root, format="parquet").to_table().num_rows == 2


def test_a_range_that_the_first_release_claimed_keeps_its_names(lake: Lake) -> None:
    stored = {"next": 1, "rows": 1, "durable": 0, "path": "{topic}", "format": "avro", "first": 1}
    chain = Chain("_schemas", 1, 0)
    lake.put_new("_persistor/claims/_schemas/0/00000000000000000000", json.dumps(stored).encode())
    layout = Claims(lake).ahead(chain, 0)[0].layout
    messages = table(row(id="_schemas_0_0", topic="_schemas"), sums=True)
    batch = Batch("_schemas", 1, 0, messages, "_schemas-0-0", layout, "claim")
    files, _ = BatchWriter(lake).write(batch)
    assert [file.location for file in files] == [lake.location("_schemas/_schemas-0-0.avro")]
