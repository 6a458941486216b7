"""Paths of files: templates, their fields, and what is escaped."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests._messages import file_tables, row, table
from transforms.errors import ConfigurationError
from transforms.lake import Lake
from transforms.layout import Template, file_path
from transforms.model import FILE_SCHEMA, Layout

KEYS = st.one_of(st.none(), st.binary(max_size=60), st.sampled_from([b"__none__", b"."]))
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def microseconds(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def rendered(template: str, *rows: dict[str, Any], topic: str = "orders") -> list[tuple[str, Any]]:
    groups = Template.parse(template).render(table(*rows), topic)
    return [(directory, None if rows is None else rows.tolist()) for directory, rows in groups]


def directory(template: str, topic: str = "orders", **values: Any) -> str:
    ((found, rows),) = rendered(template, row(**values), topic=topic)
    assert rows is None
    return found


# --- parsing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("", "empty path component"),
        ("/a", "empty path component"),
        ("a/", "empty path component"),
        ("a//b", "empty path component"),
        ("../a", "'..' is not a path component"),
        ("a/.", "'.' is not a path component"),
        ("{day}", r"\{day\} is not a field; known are topic, partition, date, hour, minute, key, header"),
        ("{}", r"\{\} is not a field"),
        ("{header[]}", r"\{header\[\]\} is not a field"),
        ("{header}", r"\{header\} is not a field"),
        ("{topic", "an unpaired brace"),
        ("topic}", "an unpaired brace"),
        ("a b%/{topic}", "' %' outside fields"),
        ("topic={topic}", "topic= is a column of the files"),
        ("Partition={partition}", "Partition= is a column of the files"),
        ("{key}=1", "is not a partition name"),
        ("={key}", "is not a partition name"),
        ("d={date}/D={hour}", "D= appears twice"),
        ("a={date}b={hour}", "more than one ="),
        ("_persistor/{topic}", "_persistor/ is reserved for Persistor"),
        ("{topic}{key}{header[a]}", "can exceed 255 bytes"),
        ("/".join(f"{{header[{n}]}}" for n in "abcdef"), "can exceed 600 bytes"),
    ],
)
def test_a_template_that_cannot_be_right_is_refused(template: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as caught:
        Template.parse(template)
    assert len(caught.value.problems) == 1 or template == "{header}"


@pytest.mark.parametrize("name", FILE_SCHEMA.names)
def test_no_column_of_the_files_may_be_a_partition(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}= is a column"):
        Template.parse(f"{name}={{date}}")


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Template.parse("{day}/{week}//key={key}/a b")
    assert [problem.split(": ", 1)[1].split(" ")[0] for problem in caught.value.problems] == [
        "{day}",
        "{week}",
        "an",
        "key=",
        "'",
    ]


# --- rendering --------------------------------------------------------------------------------


def test_the_default_is_topic_date_and_hour_in_utc() -> None:
    time = microseconds("2026-11-01T23:30:00-02:00")
    assert directory(Layout().path, publish_time=time) == "orders/date=2026-11-02/hour=01"


def test_each_field_is_what_the_message_says() -> None:
    found = directory(
        "{topic}/p{partition}/{date}T{hour}-{minute}/{key}/v={header[version]}",
        partition=7,
        publish_time=microseconds("1969-12-31T23:59:59+00:00"),
        key=b"k1",
        headers=[{"name": "version", "value": b"1"}, {"name": "version", "value": b"2"}],
    )
    assert found == "orders/p7/1969-12-31T23-59/k1/v=2"


def test_what_is_missing_is_none_and_what_is_empty_is_empty() -> None:
    template = "{partition}/d={date}/h={hour}/m={minute}/{key}/{header[a]}"
    assert directory(template, partition=None, publish_time=None) == (
        "%5F_none__/d=__none__/h=__none__/m=__none__/%5F_none__/%5F_none__"
    )
    empty = [{"name": "a", "value": b""}]
    assert directory("{key}/{header[a]}", key=b"", headers=empty) == "%5F_empty__/%5F_empty__"
    null = [{"name": "a", "value": b"x"}, {"name": "a", "value": None}]
    assert directory("{header[a]}", headers=null) == "%5F_none__"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"a/b", "a%2Fb"),
        (b"a=b", "a%3Db"),
        (b"100%", "100%25"),
        (b"\xff\x00 ~", "%FF%00%20%7E"),
        ("é".encode(), "%C3%A9"),
        (b".", "%2E"),
        (b"..", "%2E%2E"),
        (b"...", "%2E.."),
        (b"_schemas", "%5Fschemas"),
        (b".hidden", "%2Ehidden"),
        (b"a_.b", "a_.b"),
        (b"x#1", "x%231"),
        (b"__none__", "%5F%5Fnone%5F%5F"),
        (b"__empty__", "%5F%5Fempty%5F%5F"),
        (b"_persistor", "%5Fpersistor"),
        (b"a" * 100, "a" * 100),
        (b"a" * 101, "a" * 100 + "-" + sha256(b"a" * 101).hexdigest()[:16]),
        (b"/" * 40, "%2F" * 33 + "-" + sha256(b"/" * 40).hexdigest()[:16]),
    ],
)
def test_values_are_escaped(key: bytes, expected: str) -> None:
    found = directory("{key}", key=key)
    assert found == expected or (
        len(key) in {40, 101} and found.rpartition("-")[0] == expected.rpartition("-")[0]
    )


def test_a_header_may_have_any_name() -> None:
    assert directory("{header[a/b {c}=]}", headers=[{"name": "a/b {c}=", "value": b"1"}]) == "1"


def test_long_values_with_the_same_beginning_stay_apart() -> None:
    names = {directory("{key}", key=b"a" * 200 + bytes([last])) for last in range(50)}
    assert len(names) == 50
    assert {len(name) for name in names} == {117}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.binary(max_size=60), st.sampled_from([b"__none__", b"."])), unique=True)
)
def test_different_keys_have_different_directories_and_can_be_read_back(keys: list[bytes | None]) -> None:
    groups = rendered("{key}", *(row(key=key) for key in keys))
    assert len(groups) == len(keys)
    for (found, _), key in zip(groups, keys, strict=True):
        assert re.fullmatch(r"[A-Za-z0-9%-][A-Za-z0-9._%-]{0,118}", found)
        assert found not in {".", "..", "_persistor"}
        if key and len(found) <= 100:
            assert unquote_to_bytes(found) == key


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.text(max_size=300))
def test_a_local_lake_takes_every_path(
    tmp_path_factory: pytest.TempPathFactory, keys: list[bytes], name: str
) -> None:
    lake = Lake(f"file://{tmp_path_factory.mktemp('lake')}")
    groups = rendered("x{key}/k={key}/{key}", *(row(key=key) for key in keys))
    paths = [file_path(found, name, "parquet") for found, _ in groups]
    for path in paths:
        assert lake.put_new(path, b"x")
        assert max(len(part.encode()) for part in path.split("/")) <= 255
    assert sorted(found for found, _ in lake.list()) == sorted(paths)


# --- grouping ---------------------------------------------------------------------------------


def test_rows_are_grouped_in_the_order_of_first_rows() -> None:
    assert rendered("{key}", row(key=b"b"), row(key=b"a"), row(key=b"b"), row(key=None)) == [
        ("b", [0, 2]),
        ("a", [1]),
        ("%5F_none__", [3]),
    ]


def test_an_hour_boundary_splits_a_batch() -> None:
    times = ["2026-11-01T10:59:59.999999+00:00", "2026-11-01T11:00:00+00:00", "2026-11-01T10:00:00+00:00"]
    rows = [row(publish_time=microseconds(time)) for time in times] + [row(publish_time=None)]
    assert rendered("{date}/{hour}", *rows) == [
        ("2026-11-01/10", [0, 2]),
        ("2026-11-01/11", [1]),
        ("%5F_none__/%5F_none__", [3]),
    ]


def test_fields_that_join_to_the_same_path_share_a_file() -> None:
    def of(key: bytes, header: bytes) -> dict[str, Any]:
        return row(key=key, headers=[{"name": "a", "value": header}])

    assert rendered("{key}{header[a]}", of(b"a", b"bc"), of(b"x", b"y"), of(b"ab", b"c")) == [
        ("abc", [0, 2]),
        ("xy", [1]),
    ]


def test_no_rows_have_no_directory() -> None:
    assert rendered("{topic}") == []


@settings(max_examples=60, deadline=None)
@given(file_tables(max_size=12))
def test_every_row_is_in_the_directory_that_it_would_have_alone(messages: pa.Table) -> None:
    template = Template.parse("{topic}/d={date}/{partition}-{minute}/{key}/{header[a]}{header[b]}")
    groups = template.render(messages, "t")
    seen: dict[int, str] = {}
    for found, rows in groups:
        positions = range(len(messages)) if rows is None else rows.tolist()
        assert list(positions) == sorted(positions)
        seen |= dict.fromkeys(positions, found)
    assert len({found for found, _ in groups}) == len(groups)
    alone = {i: template.render(messages.slice(i, 1), "t")[0][0] for i in range(len(messages))}
    assert seen == alone


def test_three_hundred_groups_are_found_at_once() -> None:
    groups = rendered("{key}", *(row(key=b"%d" % (i % 300)) for i in range(3000)))
    assert groups == [(str(i), list(range(i, 3000, 300))) for i in range(300)]


def test_file_names_are_escaped_and_cut() -> None:
    assert file_path("a/b", "orders-3-00000000000000000012", "parquet") == (
        "a/b/orders-3-00000000000000000012.parquet"
    )
    assert file_path("a", "x/y", "avro") == "a/x%2Fy.avro"
    assert len(Path(file_path("a", "t" * 249 + "-0-12", "jsonl")).name) == 200 + 17 + 6
