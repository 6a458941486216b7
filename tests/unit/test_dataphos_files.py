"""Files written by Dataphos Persistor 1.0.0, with what its own index says of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest

from tests._messages import row, table
from transforms.entries import entries, verify
from transforms.errors import PermanentError
from transforms.formats import avro
from transforms.lake import Lake
from transforms.model import FILE_SCHEMA

FILES = Path(__file__).parents[1] / "data" / "dataphos"
BINARY = b"\xff\xfe\x00\x80\xc3("


def decoded(name: str) -> pa.Table:
    return avro.decode((FILES / name).read_bytes())


def test_a_file_gives_all_that_it_holds() -> None:
    (message,) = decoded("lake_one_record.avro").to_pylist()
    data = message.pop("data")
    assert message == {
        "id": "3_21",
        "topic": "",
        "partition": 3,
        "offset": 21,
        "publish_time": None,
        "key": None,
        "headers": [{"name": "h", "value": b"v"}],
        "checksum": None,
    }
    assert data == b"0000000085" + b"x" * (len(data) - 10)


@pytest.mark.parametrize(("name", "count"), [("lake_clean_100.avro", 100), ("lake_msg-0_0_1000.avro", 1000)])
def test_every_message_of_a_file_is_read(name: str, count: int) -> None:
    messages = decoded(name)
    assert messages.schema == FILE_SCHEMA
    assert len(set(messages["id"].to_pylist())) == len(messages) == count
    assert messages["checksum"].null_count == count


def test_header_values_that_are_not_utf8_are_the_bytes_they_were() -> None:
    for headers in decoded("lake_msg-0_0_1000.avro")["headers"].to_pylist():
        assert {"name": "bin", "value": BINARY} in headers


def test_its_index_leads_to_the_right_rows_and_they_verify_by_id(tmp_path: Path) -> None:
    lake = Lake(f"file://{tmp_path}")
    lake.put_new("msg.avro", (FILES / "lake_msg-0_0_1000.avro").read_bytes())
    lines = (FILES / "mongo_docs_3.extjson").read_text(encoding="utf-8").splitlines()
    documents = sorted(map(json.loads, lines), key=place)
    found = avro.read_rows(lake.open("msg.avro"), np.array([place(each) for each in documents]))
    ids = pa.array([each["unique_id"] for each in documents])
    outcome = verify(found, ids, pa.nulls(len(ids), pa.int64()))
    assert outcome.ok.tolist() == [True, True, True]
    assert outcome.by_checksum.tolist() == [False, False, False]
    sequence = [dict(map(dict.values, each))["seq"] for each in found["headers"].to_pylist()]
    assert sequence == [each["additional_metadata"]["seq"].encode() for each in documents]


def place(document: dict[str, Any]) -> int:
    return int(document["location_position"]["$numberInt"]) - 1


def test_no_source_is_made_up_for_its_messages() -> None:
    now = np.datetime64("2026-11-01T00:00:00", "us").item()
    with pytest.raises(PermanentError, match="contain no source"):
        entries(decoded("lake_clean_100.avro"), "file:///x", now)


def test_its_readers_can_read_our_files() -> None:
    header = [{"name": "a", "value": b"1"}, {"name": "a", "value": b"2"}, {"name": "b", "value": BINARY}]
    messages = table(row(id="t_0_0", data=b"\xff", headers=header), row(id="t_0_1", data=None), sums=True)
    theirs = json.loads((FILES / "lake_schema.avsc").read_text(encoding="utf-8"))
    assert list(fastavro.reader(io.BytesIO(avro.encode(messages)), theirs)) == [
        {"ID": "t_0_0", "Data": b"\xff", "Metadata": {"a": "2"}},
        {"ID": "t_0_1", "Data": b"", "Metadata": {}},
    ]
