"""What the index keeps of a message: checksums by their definition, traits, numbers."""

from __future__ import annotations

import zlib
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests._messages import file_tables, row, table, with_checksums
from transforms.entries import attributes, checksums, entries, message_ids, sizes, total_size, traits, verify
from transforms.errors import PermanentError
from transforms.model import ENTRY_SCHEMA, FILE_SCHEMA, Trait

MASK = 2**64 - 1
NOW = datetime(2026, 11, 1, 12, 30, tzinfo=timezone.utc)


def header(name: str, value: bytes | None) -> dict[str, Any]:
    return {"name": name, "value": value}


# --- the definition of the checksum, once more and slowly -------------------------------------


def mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def absorb(state: int, word: int) -> int:
    return mix(((state ^ word) + 0x9E3779B97F4A7C15) & MASK)


def word(value: bytes | None) -> int:
    return 0 if value is None else 1 + zlib.crc32(value) + (len(value) << 32)


def reference_checksum(message: dict[str, Any]) -> int:
    total = 0
    for number, each in enumerate(message["headers"], 1):
        total += absorb(absorb(number, word(each["name"].encode())), word(each["value"]))
    time = message["publish_time"]
    state = 0
    for part in (
        2 * len(message["headers"]) + (time is not None),
        (time or 0) & MASK,
        word(message["key"]),
        word(message["data"]),
        total & MASK,
    ):
        state = absorb(state, part)
    return state - 2**64 if state >= 2**63 else state


def as_rows(messages: pa.Table) -> list[dict[str, Any]]:
    index = FILE_SCHEMA.get_field_index("publish_time")
    return messages.set_column(index, "publish_time", messages["publish_time"].cast(pa.int64())).to_pylist()


@settings(max_examples=150, deadline=None)
@given(file_tables())
def test_the_checksum_is_what_its_definition_says(messages: pa.Table) -> None:
    assert checksums(messages).to_pylist() == [reference_checksum(each) for each in as_rows(messages)]


@pytest.mark.parametrize("distinct", [3, 400])
def test_values_that_repeat_have_the_checksums_of_the_definition(distinct: int) -> None:
    values = [None, b"", *(b"%d" % n for n in range(distinct))]
    rows = [
        row(key=values[n % len(values)], data=b"same", headers=[header("a", values[-n % len(values)])])
        for n in range(600)
    ]
    messages = table(*rows)
    assert checksums(messages).to_pylist() == [reference_checksum(each) for each in as_rows(messages)]


VECTORS = [
    (row(publish_time=None, key=None, data=None), 8695987549771912286),
    (row(publish_time=0, key=b"", data=b""), -3407227826417579524),
    (row(publish_time=-1, key=b"k", data=b"payload"), -2106893036708815164),
    (
        row(publish_time=1_762_000_000_123_456, key=b"\xff", data=None, headers=[header("a", None)]),
        -4952883846955103401,
    ),
    (row(headers=[header("a", b"1"), header("b", b"2")]), 8933358953901388385),
    (row(headers=[header("b", b"2"), header("a", b"1")]), 1793281132978659841),
]


def test_the_checksum_never_changes() -> None:
    assert checksums(table(*(message for message, _ in VECTORS))).to_pylist() == [sum for _, sum in VECTORS]


def test_messages_that_differ_in_one_thing_have_different_checksums() -> None:
    messages = [
        row(),
        row(data=None),
        row(key=b""),
        row(publish_time=1),
        row(publish_time=None),
        row(data=b"ab", key=b"c"),
        row(data=b"a", key=b"bc"),
        row(headers=[header("", None)]),
        row(headers=[header("", b"")]),
        row(headers=[header("a", b"b")]),
        row(headers=[header("ab", b"")]),
        row(headers=[header("a", b"b"), header("a", b"b")]),
        row(headers=[header("a", b"b"), header("a", b"c")]),
        row(headers=[header("a", b"c"), header("a", b"b")]),
    ]
    assert len(set(checksums(table(*messages)).to_pylist())) == len(messages)


def test_where_a_message_lies_does_not_change_its_checksum() -> None:
    here, there = row(), row(id="other", topic="other", partition=None, offset=None)
    assert len(set(checksums(table(here, there)).to_pylist())) == 1


# --- sizes, traits, attributes ----------------------------------------------------------------


def reference_traits(message: dict[str, Any]) -> int:
    def binary(value: bytes | None) -> bool:
        try:
            (value or b"").decode()
        except UnicodeDecodeError:
            return True
        return False

    key, names = message["key"], [each["name"] for each in message["headers"]]
    values = [each["value"] for each in message["headers"]]
    return sum(
        trait
        for trait, present in {
            Trait.NULL_DATA: message["data"] is None,
            Trait.KEY: key is not None,
            Trait.HEADERS: bool(names),
            Trait.REPEATED_HEADERS: len(set(names)) < len(names),
            Trait.BINARY_HEADERS: any(map(binary, values)),
            Trait.NULL_HEADERS: None in values,
            Trait.BINARY_KEY: binary(key),
            Trait.EMPTY_KEY: key == b"",
        }.items()
        if present
    )


def reference_attributes(message: dict[str, Any]) -> dict[str, str]:
    found = {}
    for each in message["headers"]:
        try:
            value = None if each["value"] is None else each["value"].decode()
        except UnicodeDecodeError:
            continue
        if value is not None:
            found[each["name"]] = value
    return found


def reference_size(message: dict[str, Any]) -> int:
    values = [message["key"], message["data"]]
    values += [part for each in message["headers"] for part in (each["name"].encode(), each["value"])]
    return sum(len(value or b"") for value in values)


@settings(max_examples=150, deadline=None)
@given(file_tables())
def test_sizes_traits_and_attributes_are_those_of_each_message(messages: pa.Table) -> None:
    rows = as_rows(messages)
    assert sizes(messages).to_pylist() == [reference_size(each) for each in rows]
    assert total_size(messages.slice(1)) == sum(reference_size(each) for each in rows[1:])
    assert traits(messages).to_pylist() == [reference_traits(each) for each in rows]
    assert [dict(each) for each in attributes(messages).to_pylist()] == [
        reference_attributes(each) for each in rows
    ]
    assert [len(each) for each in attributes(messages).to_pylist()] == [
        len(reference_attributes(each)) for each in rows
    ]


def test_a_header_name_that_is_not_utf8_is_a_trait_and_no_attribute() -> None:
    names = pa.array([b"\xff", b"ok"]).view(pa.string())
    values = pa.array([b"1", b"2"])
    lists = pa.ListArray.from_arrays([0, 2], pa.StructArray.from_arrays([names, values], ["name", "value"]))
    messages = table(row()).set_column(7, FILE_SCHEMA.field("headers"), lists.cast(FILE_SCHEMA.field(7).type))
    assert traits(messages).to_pylist() == [Trait.HEADERS | Trait.BINARY_HEADERS]
    assert attributes(messages).to_pylist() == [[("ok", "2")]]


# --- ids and entries --------------------------------------------------------------------------


def test_ids_name_source_incarnation_partition_and_offset() -> None:
    messages = table(row(offset=0), row(offset=12))
    assert message_ids("eu.orders", 1, 3, messages).to_pylist() == ["eu.orders_3_0", "eu.orders_3_12"]
    assert message_ids("orders", 2, 3, messages).to_pylist() == ["orders~2_3_0", "orders~2_3_12"]


def test_ids_without_offsets_are_the_brokers() -> None:
    messages = table(row(offset=None, id="77"), row(offset=None, id="x-78"))
    assert message_ids("orders", 1, None, messages).to_pylist() == ["orders_77", "orders_x-78"]
    mixed = table(row(offset=None, id="77"), row(offset=5, id=None))
    assert message_ids("orders", 2, 0, mixed).to_pylist() == ["orders~2_77", "orders~2_0_5"]


def ided(*ids: str, offset: int | None = 0) -> pa.Table:
    return table(*(row(id=id, offset=offset) for id in ids), sums=True)


def found_sources(messages: pa.Table) -> list[tuple[str, int]]:
    made = entries(messages, "file:///lake/x", NOW)
    return list(zip(made["source"].to_pylist(), made["incarnation"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (ided("a_0_0", "a_0_1"), [("a", 1), ("a", 1)]),
        (ided("a~7_0_0", "a~7_0_1"), [("a", 7), ("a", 7)]),
        (ided("a_b_0_0", "a_b_1_9"), [("a_b", 1), ("a_b", 1)]),
        (ided("a_1_5", "a_1_5_6"), [("a", 1), ("a_1", 1)]),
        (ided("a_0_0", "a~2_0_0", "a~2_0_0"), [("a", 1), ("a", 2), ("a", 2)]),
        (ided("a_b_77", "a_b_78", offset=None), [("a_b", 1), ("a_b", 1)]),
        (ided("a~3_77", "b_1_78", offset=None), [("a", 3), ("b_1", 1)]),
        (ided("a\nb_0_0", "c_0_0"), [("a\nb", 1), ("c", 1)]),
        (pa.concat_tables([ided("a_0_0"), ided("a_77", offset=None)]), [("a", 1), ("a", 1)]),
        (ided(), []),
    ],
)
def test_the_source_is_found_in_the_id(messages: pa.Table, expected: list[tuple[str, int]]) -> None:
    assert found_sources(messages) == expected


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "a_1", "a_1_2", "é.x-"]), st.integers(1, 3)), min_size=1),
    st.booleans(),
)
def test_ids_give_back_what_they_were_made_of(made_of: list[tuple[str, int]], offsets: bool) -> None:
    rows = [row(id=str(i), offset=i if offsets else None, partition=i % 2) for i in range(len(made_of))]
    ids = [
        message_ids(source, incarnation, each["partition"], table(each))[0].as_py()
        for (source, incarnation), each in zip(made_of, rows, strict=True)
    ]
    messages = table(*({**each, "id": id} for each, id in zip(rows, ids, strict=True)))
    assert found_sources(messages) == made_of


def test_ids_without_a_source_are_refused() -> None:
    with pytest.raises(PermanentError, match="1 of 2 ids contain no source"):
        entries(ided("a_0_0", "0_1"), "file:///lake/x", NOW)


def test_entries_have_every_column_in_the_order_of_the_rows() -> None:
    messages = table(
        row(id="t_0_4", offset=4, key=b"k", data=b"abc", headers=[header("v", b"2")]),
        row(id="t_0_5", offset=5, publish_time=None, data=None),
        sums=True,
    )
    made = entries(messages, "s3://lake/f.parquet", NOW, np.array([7, 9]))
    assert made.schema == ENTRY_SCHEMA
    sums = checksums(messages).to_pylist()
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    common = {"source": "t", "incarnation": 1, "topic": "t", "partition": 0, "ingestion_time": NOW}
    common["location"] = "s3://lake/f.parquet"
    assert made.to_pylist() == [
        {"id": "t_0_4", "offset": 4, "publish_time": epoch, "key": b"k", "attributes": [("v", "2")]}
        | {"size": 6, "traits": Trait.KEY | Trait.HEADERS, "checksum": sums[0], "position": 7}
        | common,
        {"id": "t_0_5", "offset": 5, "publish_time": None, "key": None, "attributes": []}
        | {"size": 0, "traits": Trait.NULL_DATA, "checksum": sums[1], "position": 9}
        | common,
    ]


# --- verification -----------------------------------------------------------------------------


def test_rows_are_verified_by_id_and_checksum() -> None:
    messages = table(row(id="t_0_0"), row(id="t_0_1"), row(id="t_0_2"), row(id="t_0_3"), sums=True)
    sums = messages["checksum"].to_pylist()
    expected = pa.array([sums[0], sums[1] + 1, sums[2], None], pa.int64())
    outcome = verify(messages, pa.array(["t_0_0", "t_0_1", "t_0_9", "t_0_3"]), expected)
    assert outcome.ok.tolist() == [True, False, False, True]
    assert outcome.by_checksum.tolist() == [True, True, True, True]


def test_a_damaged_payload_is_found_even_where_file_and_index_agree() -> None:
    messages = table(row(data=b"right"), sums=True)
    damaged = messages.set_column(6, FILE_SCHEMA.field("data"), pa.array([b"wrong"]))
    assert verify(
        damaged, messages["id"].combine_chunks(), messages["checksum"].combine_chunks()
    ).ok.tolist() == [False]


def test_rows_of_other_products_are_verified_by_id_only() -> None:
    messages = table(*(row(id="1_63") for _ in range(5)), row(id=None))
    ids = pa.array(["1_63", "vref.s.src_1_63", "vref.s.src_11_63", "vref.s.src_1_64", None, "a_1"])
    outcome = verify(messages, ids, pa.nulls(6, pa.int64()))
    assert outcome.ok.tolist() == [True, True, False, False, False, False]
    assert outcome.by_checksum.tolist() == [False] * 6


def test_a_file_that_lost_its_checksums_is_not_taken_for_another_products() -> None:
    outcome = verify(table(row(id="t_0_0")), pa.array(["t_0_0"]), pa.array([5], pa.int64()))
    assert outcome.ok.tolist() == [False]


@settings(max_examples=50, deadline=None)
@given(file_tables())
def test_what_was_written_verifies(messages: pa.Table) -> None:
    written = with_checksums(messages)
    ids = written["id"].combine_chunks()
    outcome = verify(written, ids, written["checksum"].combine_chunks())
    assert outcome.ok.tolist() == [id is not None for id in ids.to_pylist()]


@pytest.mark.parametrize("more", [0, 1])
def test_keys_and_headers_beyond_64_kib_are_not_searchable_and_all_else_is(more: int) -> None:
    limit = 64 * 1024
    key, value = b"\xff" * (limit + more), b"v" * (limit - 1 + more)
    messages = table(
        row(id="s_0_0", offset=0, key=b"k", headers=[("a", b"1")]),
        row(id="s_0_1", offset=1, key=key, headers=[("a", value)]),
        row(id="s_0_2", offset=2, headers=[("b", b"2")]),
        sums=True,
    )
    made = entries(messages, "file:///l/a.parquet", datetime(2024, 1, 1, tzinfo=timezone.utc))
    assert made["key"].to_pylist() == [b"k", None if more else key, None]
    long = [] if more else [("a", value.decode())]
    assert made["attributes"].to_pylist() == [[("a", "1")], long, [("b", "2")]]
    whole = Trait.KEY | Trait.HEADERS | Trait.BINARY_KEY
    assert made["traits"].to_pylist()[1] == whole
    assert made["size"].to_pylist()[1] == len(key) + 1 + len(value)
    assert (made.nbytes < limit) == bool(more)
