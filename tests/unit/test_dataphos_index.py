"""What Dataphos Persistor wrote: its metadata messages and its documents in MongoDB."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from bson import ObjectId, json_util
from pymongo import MongoClient

from tests._entries import entry, table
from tests.conftest import running
from tests.servers.mongodb import MongoDB
from transforms.errors import PermanentError
from transforms.indexes import Index, SourceSummary, mongodb
from transforms.metadata.dataphos import from_dataphos_metadata
from transforms.model import ENTRY_SCHEMA
from transforms.selection import Selection, parse_selection

DATA = Path(__file__).parents[1] / "data" / "dataphos"
EVERYTHING = Selection(all=True)
BINARY = "\ufffd\ufffd\0\ufffd\ufffd("


def time(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-23T{text}").replace(tzinfo=timezone.utc)


FIRST = {
    "id": "vref.s.src_1_63",
    "source": "vref.s.src",
    "incarnation": 1,
    "topic": "vref.s.src",
    "partition": 1,
    "offset": 63,
    "publish_time": time("08:30:13.992000"),
    "ingestion_time": time("09:30:14.010980"),
    "key": None,
    "attributes": [("bin", BINARY), ("dup", "second"), ("seq", "266"), ("source", "smoke")],
    "size": 0,
    "traits": 0,
    "checksum": None,
    "location": "gs://lake/2026/11/23/09/msg-0_0.avro",
    "position": 323,
}


class TestMetadataMessages:
    def test_a_message_as_it_was_on_the_topic_is_an_entry(self) -> None:
        found = from_dataphos_metadata((DATA / "metadata_topic_raw_1.txt").read_bytes())
        assert found.schema == ENTRY_SCHEMA
        assert found.to_pylist() == [FIRST]

    def test_all_samples_are_entries(self) -> None:
        samples = json.loads((DATA / "metadata_topic_3.json").read_text())
        found = pa.concat_tables([from_dataphos_metadata(json.dumps(sample).encode()) for sample in samples])
        assert found["offset"].to_pylist() == [63, 64, 65]
        assert found["position"].to_pylist() == [323, 324, 325]

    def test_business_keys_are_attributes_like_other_headers(self) -> None:
        keys = {"business_source_key": "s", "business_object_key": "o"}
        (found,) = from_dataphos_metadata(changed(**keys)).to_pylist()
        assert found["attributes"] == [*FIRST["attributes"], *keys.items()]

    def test_a_message_id_without_position_leaves_it_out(self) -> None:
        (found,) = from_dataphos_metadata(changed(broker_msg_id="8123", ordering_key="k")).to_pylist()
        assert (found["partition"], found["offset"], found["key"]) == (None, None, b"k")

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            (b"", "not valid JSON"),
            (b"[" * 100_000, "not valid JSON"),
            (b"[]", "not a JSON object"),
            (b"{}", "broker_id"),
            (b"\xff", "not valid JSON"),
        ],
    )
    def test_what_is_no_document_is_refused(self, value: bytes, problem: str) -> None:
        with pytest.raises(PermanentError, match=problem):
            from_dataphos_metadata(value)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("unique_id", 5),
            ("unique_id", "\ud800"),
            ("location", {"location_key": "x", "location_position": True}),
            ("additional_metadata", {"a": 1}),
            ("additional_metadata", {"\ud800": "a"}),
            ("timestamp", {"publish_time": "2026-13-23 08:30:13", "ingestion_time": "2026-11-23 08:30:13"}),
            ("timestamp", {"publish_time": "yesterday", "ingestion_time": "2026-11-23 08:30:13"}),
        ],
    )
    def test_a_wrong_field_is_refused(self, name: str, value: object) -> None:
        with pytest.raises(PermanentError, match="has no valid"):
            from_dataphos_metadata(changed(**{name: value}))


def changed(**values: Any) -> bytes:
    return json.dumps({**json.loads((DATA / "metadata_topic_raw_1.txt").read_bytes()), **values}).encode()


@pytest.fixture(scope="module")
def server() -> Iterator[MongoDB]:
    yield from running(MongoDB)


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    lines = (DATA / "mongo_docs_3.extjson").read_text().splitlines()
    return [json_util.loads(line) for line in lines if line]


@pytest.fixture
def index(server: MongoDB, documents: list[dict[str, Any]]) -> Iterator[Index]:
    database = f"t{uuid.uuid4().hex}"
    with MongoClient[dict[str, Any]]("127.0.0.1", server.port) as client:
        client[database].archive.insert_many(documents)
    opened = mongodb.open(f"mongodb://127.0.0.1:{server.port}/{database}.archive")
    yield opened
    opened.close()


def select(index: Index, selection: str) -> list[str]:
    parts = index.select(parse_selection(selection), ["id"])
    return [id for part in parts for id in part["id"].to_pylist()]


class TestDocuments:
    def test_a_document_is_an_entry(self, index: Index) -> None:
        found = index.get("vref.s.src_1_63")
        assert found.schema == ENTRY_SCHEMA
        assert found.to_pylist() == [{**FIRST, "ingestion_time": time("09:30:14.010000")}]
        assert index.get("vref.s.src_0_3")["attributes"].to_pylist()[0][0] == ("ordering_key", "ok3")
        assert index.get("vref.s.src_9_9").num_rows == 0

    def test_documents_are_selected_in_replay_order(self, index: Index) -> None:
        index.insert(
            table(entry("orders_0_0"), entry("vref.s.src_1_40", source="vref.s.src", partition=1, offset=40))
        )
        assert select(index, '{"sources": ["vref.s.src"]}') == [
            "vref.s.src_0_3",
            "vref.s.src_1_23",
            "vref.s.src_1_40",
            "vref.s.src_1_63",
        ]

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ('{"offset": {"gte": 23}}', ["vref.s.src_1_23", "vref.s.src_1_63"]),
            ('{"partition": 0}', ["vref.s.src_0_3"]),
            ('{"attributes.business_object_key": "bobj10"}', ["vref.s.src_0_3"]),
            ('{"attributes.business_source_key": {"exists": false}}', ["vref.s.src_1_23", "vref.s.src_1_63"]),
            ('{"id": {"prefix": "vref.s.src_1"}}', ["vref.s.src_1_23", "vref.s.src_1_63"]),
            ('{"id": "vref.s.src_0_3"}', ["vref.s.src_0_3"]),
            ('{"topic": {"ne": "other"}, "attributes.seq": "99"}', ["vref.s.src_1_23"]),
            ('{"attributes.nullv": {"exists": false}}', ["vref.s.src_0_3", "vref.s.src_1_63"]),
            ('{"publish_time": "2026-11-23T08:30:13.992Z"}', ["vref.s.src_1_63"]),
            ('{"key": {"prefix": ""}}', []),
        ],
    )
    def test_conditions_mean_the_same(self, index: Index, where: str, expected: list[str]) -> None:
        assert select(index, f'{{"where": [{where}]}}') == expected

    def test_times_and_ids_select(self, index: Index) -> None:
        span = '{"published_from": "2026-11-23T08:30:13.736Z", "published_to": "2026-11-23T08:30:13.992Z"}'
        assert select(index, span) == ["vref.s.src_0_3", "vref.s.src_1_23"]
        assert select(index, '{"ids": ["vref.s.src_1_63", "x"]}') == ["vref.s.src_1_63"]

    def test_names_of_attributes_are_taken_as_they_are(
        self, index: Any, documents: list[dict[str, Any]]
    ) -> None:
        names = {"ce.type": "a", "$b": "b", "%2E": "c", "": "d", "x.y.%": "e"}
        document = {**documents[0], "_id": ObjectId(), "unique_id": "u", "additional_metadata": names}
        index._messages.insert_one(document)
        assert index.get("u")["attributes"].to_pylist() == [list(names.items())]
        for name, value in names.items():
            assert select(index, json.dumps({"where": [{f"attributes.{name}": value}]})) == ["u"]

    def test_search_pages_over_documents_of_both_kinds(self, index: Index) -> None:
        index.insert(table(entry("orders_0_0")))
        expected = ["orders_0_0", "vref.s.src_0_3", "vref.s.src_1_23", "vref.s.src_1_63"]
        found, after = [], None
        while len(page := index.search(EVERYTHING, 1, after)):
            found += page["id"].to_pylist()
            after = page["publish_time"].cast(pa.int64())[0].as_py(), found[-1]
        assert found == expected

    def test_a_message_that_was_written_twice_is_given_once(
        self, index: Any, documents: list[dict[str, Any]]
    ) -> None:
        index._messages.insert_many([{**document, "_id": ObjectId()} for document in documents * 2])
        ids = ["vref.s.src_0_3", "vref.s.src_1_23", "vref.s.src_1_63"]
        assert select(index, '{"all": true}') == ids
        assert index.search(EVERYTHING, 3)["id"].to_pylist() == ids
        assert index.summarize(EVERYTHING) == [
            SourceSummary("vref.s.src", 3, 0, time("08:30:13.736000"), time("08:30:13.992000"), {0: 3})
        ]

    def test_a_histogram_counts_a_message_that_was_written_twice_once(
        self, index: Any, documents: list[dict[str, Any]]
    ) -> None:
        index._messages.insert_many([{**document, "_id": ObjectId()} for document in documents])
        start = int(time("08:30:13").timestamp()) * 1_000_000
        assert index.histogram(EVERYTHING, start, 1_000_000) == {0: 3}
        assert index.files() == {"vref.s.src": len({document["location_key"] for document in documents})}

    def test_our_entry_of_the_same_message_is_preferred(self, index: Index) -> None:
        (ours,) = from_dataphos_metadata(changed()).to_pylist()
        index.insert(table({**ours, "checksum": 7}))
        found = pa.concat_tables(list(index.select(Selection(ids=(ours["id"],)), ["checksum"])))
        assert found["checksum"].to_pylist() == [7]
        assert index.get(ours["id"])["checksum"].to_pylist() == [7]
        assert index.summarize(EVERYTHING)[0].messages == 3

    def test_its_metadata_messages_are_indexed(self, index: Index) -> None:
        found = from_dataphos_metadata(changed(unique_id="vref.s.src_1_99", broker_msg_id="1_99"))
        assert index.insert(found) == 1
        assert index.insert(found) == 0
        (row,) = index.get("vref.s.src_1_99").to_pylist()
        assert (row["offset"], row["checksum"], row["position"]) == (99, None, 323)
