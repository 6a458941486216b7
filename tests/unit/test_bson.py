"""BSON by columns says what the driver's own encoder and decoder say."""

from __future__ import annotations

from typing import Any

import bson
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests._entries import entry, entry_tables, table
from transforms.indexes.mongodb import bson_columns
from transforms.indexes.mongodb.documents import DECODING, FIELDS, documents, table_of, table_of_batch
from transforms.model import ENTRY_SCHEMA

PLAIN = [name for name in ENTRY_SCHEMA.names if name != "attributes"]
_VALUES = st.one_of(st.text(max_size=3), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.none())
_ALIKE = st.builds(
    lambda *values: dict(zip(["a", "é", ""], values, strict=True)),
    st.text(max_size=3),
    st.integers(0, 2**31 - 1),
    st.text(),
)


def stored(entries: pa.Table) -> list[dict[str, Any]]:
    return [bson.decode(document.raw, DECODING) for document in documents(entries)]


class TestWriting:
    @given(entries=entry_tables())
    @settings(max_examples=60, deadline=None)
    def test_documents_are_valid_and_hold_the_entries(self, entries: pa.Table) -> None:
        raw = [document.raw for document in documents(entries)]
        found = [bson.decode(document, DECODING) for document in raw]
        assert table_of(found, ENTRY_SCHEMA.names) == entries
        assert [bson.encode(document) for document in found] == raw

    def test_fields_are_those_of_dataphos_persistor(self) -> None:
        position = {"partition": 1, "offset": 2, "position": 7, "source": "eu.orders"}
        (document,) = stored(table(entry("eu.orders_1_2", key=b"k", attributes=[("a.b", "c")], **position)))
        assert document.pop("indexer_ingestion_time")
        assert {name: document[name] for name in ("_id", "unique_id", "broker_id", "broker_msg_id")} == {
            "_id": "eu.orders_1_2",
            "unique_id": "eu.orders_1_2",
            "broker_id": "eu.orders",
            "broker_msg_id": "1_2",
        }
        assert (document["location_position"], document["confirmation_flag"]) == (8, False)
        assert (document["ordering_key"], document["additional_metadata"]) == ("k", {"a%2Eb": "c"})
        assert int(document["publish_time"]) * 1000 == document["publish_time_us"]

    def test_a_message_without_offset_keeps_its_brokers_id(self) -> None:
        (document,) = stored(table(entry("orders_815", partition=None, offset=None, publish_time=None)))
        assert document["broker_msg_id"] == "815"
        assert (
            not {"partition", "offset", "publish_time", "publish_time_us", "ordering_key"} & document.keys()
        )


class TestReading:
    @given(found=st.lists(st.dictionaries(st.sampled_from(["a", "b", ""]), _VALUES, max_size=3), min_size=1))
    @settings(max_examples=200, deadline=None)
    def test_columns_are_exact_or_refused(self, found: list[dict[str, Any]]) -> None:
        columns = bson_columns.columns(b"".join(map(bson.encode, found)))
        if columns is not None:
            assert [list(document) for document in found] == [list(columns)] * len(found)
            assert {name: column.to_pylist() for name, column in columns.items()} == by_name(found)

    @given(found=st.lists(_ALIKE, min_size=1, max_size=20))
    @settings(max_examples=100, deadline=None)
    def test_documents_of_the_same_fields_are_never_refused(self, found: list[dict[str, Any]]) -> None:
        columns = bson_columns.columns(b"".join(map(bson.encode, found)))
        assert columns is not None
        assert {name: column.to_pylist() for name, column in columns.items()} == by_name(found)

    @given(entries=entry_tables().filter(len))
    @settings(max_examples=60, deadline=None)
    def test_a_batch_gives_the_same_table_either_way(self, entries: pa.Table) -> None:
        fields = {FIELDS[name] for name in PLAIN} | {"ordering_key_bytes"}
        found = [{k: v for k, v in document.items() if k in fields} for document in stored(entries)]
        batch = b"".join(map(bson.encode, found))
        assert table_of_batch(batch, PLAIN) == entries.select(PLAIN)


def by_name(found: list[dict[str, Any]]) -> dict[str, list[Any]]:
    encoded = [{k: v.encode() if isinstance(v, str) else v for k, v in d.items()} for d in found]
    return {name: [document[name] for document in encoded] for name in encoded[0]}
