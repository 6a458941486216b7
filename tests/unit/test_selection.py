"""Selections: what is accepted, what is refused and how, and what of a stream is taken."""

from __future__ import annotations

import json
import zlib
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from tests._entries import EPOCH, entry, entry_tables, selections, table
from transforms.errors import ConfigurationError
from transforms.selection import Condition, Selection, parse_selection, sample_and_limit


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        parse_selection(text)
    return raised.value.problems


def where(clause: dict[str, Any]) -> list[str]:
    return problems(json.dumps({"where": [clause]}))


class TestReading:
    def test_a_selection_has_the_parts_that_were_given(self) -> None:
        selection = parse_selection(
            """{"sources": ["orders"], "published_from": "2026-11-01T02:00:00+02:00",
                "where": [{"attributes.version": "2", "offset": {"gte": 5, "lt": 9}},
                          {"key": {"base64": "/w=="}}],
                "limit": 3, "sample": 1}"""
        )
        assert selection.sources == ("orders",)
        assert selection.published_from == datetime(2026, 11, 1, tzinfo=timezone.utc)
        assert selection.published_to is None
        assert selection.where == (
            (
                Condition("attributes", "eq", ("2",), "version"),
                Condition("offset", "gte", (5,)),
                Condition("offset", "lt", (9,)),
            ),
            (Condition("key", "eq", (b"\xff",)),),
        )
        assert (selection.limit, selection.sample, selection.all) == (3, 1.0, False)

    def test_times_are_exact_to_the_microsecond(self) -> None:
        selection = parse_selection('{"published_from": "2026-11-01T00:00:00.000001Z"}')
        assert selection.from_us == 1793491200000001
        assert selection.to_us is None

    @given(value=selections())
    @settings(max_examples=100, deadline=None)
    def test_json_gives_an_equal_selection(self, value: dict[str, Any]) -> None:
        selection = parse_selection(json.dumps(value))
        assert parse_selection(selection.to_json()) == selection
        assert Selection.model_validate(selection.model_dump(exclude_defaults=True)) == selection

    @pytest.mark.parametrize("text", ['{"sources": ["a"]}', '{"ids": ["a"]}', '{"limit": 1, "all": true}'])
    def test_one_part_is_enough(self, text: str) -> None:
        assert parse_selection(text).to_json() == text


class TestRefusing:
    def test_an_empty_selection_needs_all(self) -> None:
        (problem,) = problems("{}")
        assert "selection is empty" in problem
        assert "all: true" in problem
        assert problems('{"limit": 5, "sample": 0.5}') == [problem]
        assert problems('{"all": false}') == [problem]

    def test_all_with_something_else_is_refused(self) -> None:
        (problem,) = problems('{"all": true, "sources": ["a"]}')
        assert "all: true means everything" in problem

    @pytest.mark.parametrize("part", ["sources", "ids", "where"])
    def test_an_empty_list_is_refused(self, part: str) -> None:
        assert problems(f'{{"{part}": []}}') == [
            f"selection: {part}: an empty list would match nothing; remove it or name at least one."
        ]

    def test_every_problem_is_named_with_its_place(self) -> None:
        found = problems('{"source": ["a"], "limit": 0, "where": [{"a": 1}, {"offset": {"ge": 1}}, {}]}')
        places = [problem.split(":")[1].strip() for problem in found[:-1]]
        assert places == ["where[0]", "where[1]", "where[2]", "limit"]
        assert found[-1].startswith("selection: source is unknown; known are sources, published_from,")

    @pytest.mark.parametrize(
        "value", ["2026-11-01", "2026-11-01T00:00:00", "1793491200", 1793491200, "yesterday", True]
    )
    def test_a_time_needs_its_zone(self, value: object) -> None:
        (problem,) = problems(json.dumps({"sources": ["a"], "published_to": value}))
        assert "time zone" in problem

    @pytest.mark.parametrize("time", ["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"])
    @pytest.mark.parametrize("place", ['{"published_to": "%s"}', '{"where": [{"publish_time": "%s"}]}'])
    def test_a_time_is_one_in_utc_too(self, place: str, time: str) -> None:
        (problem,) = problems(place % time)
        assert "the years 1 to 9999" in problem

    def test_times_in_the_wrong_order_are_refused(self) -> None:
        time = "2026-11-01T00:00:00Z"
        (problem,) = problems(json.dumps({"published_from": time, "published_to": time}))
        assert "published_from must be before published_to" in problem

    @pytest.mark.parametrize(
        ("clause", "words"),
        [
            ({"colour": 1}, "unknown field; known are id, key, topic"),
            ({"attributes": "a"}, "unknown field"),
            ({"offset": {"above": 1}}, "operator 'above' is not allowed here"),
            ({"offset": {"prefix": "1"}}, "operator 'prefix' is not allowed here"),
            ({"key": {"gt": "a"}}, "allowed are eq, in, prefix"),
            ({"key": {"base64": "%"}}, "base64 is not valid"),
            ({"key": {"eq": {"base64": "", "hex": ""}}}, 'or {"base64": "…"}'),
            ({"offset": "5"}, "takes an integer, not a string"),
            ({"offset": True}, "takes an integer, not true or false"),
            ({"offset": 1.0}, "takes an integer, not a fraction"),
            ({"offset": 2**63}, "does not fit 64 bits"),
            ({"attributes.a": 2}, "takes a string in quotes, not a number"),
            ({"attributes.a": None}, "exists: false"),
            ({"attributes.a": ["b"]}, "a list (use in)"),
            ({"attributes.a": {"in": []}}, "a list with at least one value"),
            ({"attributes.a": {"in": "b"}}, "a list with at least one value"),
            ({"attributes.a": {"exists": 1}}, "exists takes true or false"),
            ({"attributes.a": {}}, "has no operator"),
            ({"attributes.a": "\ud800"}, "not valid Unicode"),
            ({"topic": "x" * 4097}, "longer than 4096"),
            ({"publish_time": {"gt": "2026-11-01"}}, "time zone"),
            ({f"attributes.{n}": "x" for n in range(51)}, "more than 50 conditions"),
        ],
    )
    def test_a_wrong_condition_is_explained(self, clause: dict[str, Any], words: str) -> None:
        (problem,) = where(clause)
        assert problem.startswith("selection: where[0]: ")
        assert words in problem

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[" * 100_000,
            "nothing",
            '{"sources": ["a"], "sources": ["b"]}',
            '{"limit": ' + "9" * 5000 + "}",
            '{"all": ' + "[" * 30 + "]" * 30 + "}",
            '{"sources": ["a"], "sample": NaN}',
            '{"sources": ["a"], "sample": 1e999}',
        ],
    )
    def test_what_is_not_json_is_refused(self, text: str) -> None:
        (problem,) = problems(text)
        assert problem.startswith("The selection is not valid JSON")

    @pytest.mark.parametrize(
        "value",
        [
            [],
            {"ids": ["x"] * 10_001},
            {"sources": ["x"] * 10_001},
            {"ids": ["x" * 4097]},
            {"where": [{"id": "x"}] * 101},
            {"where": [{"id": {"in": ["x"] * 5001}}] * 2},
            {"sources": ["a"], "sample": 0},
            {"sources": ["a"], "sample": 1.5},
            {"sources": ["a"], "sample": float("nan")},
            {"sources": ["a"], "limit": "5"},
            {"sources": ["a"], "limit": True},
            {"sources": ["a"], "all": "yes"},
            {"sources": "a"},
        ],
    )
    def test_what_is_too_much_or_of_a_wrong_type_is_refused(self, value: object) -> None:
        assert len(problems(json.dumps(value))) == 1

    def test_text_over_the_limit_is_not_even_read(self) -> None:
        (problem,) = problems(" " * (17 << 20))
        assert "larger than 16 MiB" in problem

    def test_python_values_are_checked_alike(self) -> None:
        with pytest.raises(ValidationError):
            Selection(sources=("a",), where=({"colour": 1},))  # type: ignore[arg-type]


class TestFiltering:
    ENTRIES = table(
        entry("a", key=b"\xff", attributes=[("v", "\U00010000")], publish_time=EPOCH, offset=None),
        entry("b", key=None, attributes=[("v", "\uffff"), ("", "")], publish_time=None, offset=5),
        entry("c", key=b"", publish_time=EPOCH + timedelta(microseconds=1), source="other"),
    )

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ({"all": True}, "abc"),
            ({"sources": ["other", "unknown"]}, "c"),
            ({"ids": ["c", "a", "x"]}, "ac"),
            ({"published_from": "1970-01-01T00:00:00.000001Z"}, "c"),
            ({"published_to": "1970-01-01T00:00:00.000001Z"}, "a"),
            ({"where": [{"attributes.v": {"ne": "\uffff"}}]}, "a"),
            ({"where": [{"attributes.v": {"gt": "\uffff"}}]}, "a"),
            ({"where": [{"attributes.v": {"exists": False}}]}, "c"),
            ({"where": [{"attributes.v": {"nin": ["x"]}}]}, "ab"),
            ({"where": [{"attributes.": ""}, {"key": {"base64": "/w=="}}]}, "ab"),
            ({"where": [{"key": {"prefix": ""}}]}, "ac"),
            ({"where": [{"offset": {"gt": 0, "exists": True}}]}, "b"),
            ({"where": [{"offset": {"exists": False}}]}, "a"),
            ({"where": [{"publish_time": {"exists": False}}]}, "b"),
            ({"where": [{"id": "a", "topic": "none"}]}, ""),
        ],
    )
    def test_the_mask_has_one_meaning(self, value: dict[str, Any], expected: str) -> None:
        mask = Selection.model_validate(value).filter(self.ENTRIES)
        assert "".join(self.ENTRIES.filter(mask)["id"].to_pylist()) == expected
        assert mask.null_count == 0

    @given(entries=entry_tables(), value=selections())
    @settings(max_examples=50, deadline=None)
    def test_rows_are_judged_one_by_one(self, entries: Any, value: dict[str, Any]) -> None:
        selection = Selection.model_validate(value)
        single = [selection.filter(entries.slice(row, 1))[0].as_py() for row in range(len(entries))]
        assert selection.filter(entries).to_pylist() == single


class TestTaking:
    def test_a_sample_is_chosen_by_the_ids(self) -> None:
        ids = [f"orders_0_{n}" for n in range(4000)]
        selection = Selection(all=True, sample=0.25)
        (taken,) = sample_and_limit([table(*(entry(id) for id in ids))], selection)
        assert taken["id"].to_pylist() == [id for id in ids if zlib.crc32(id.encode()) < 2**30]
        assert 900 < len(taken) < 1100

    def test_the_whole_is_a_sample_too(self) -> None:
        entries = table(*(entry(str(n)) for n in range(100)))
        assert list(sample_and_limit([entries], Selection(all=True, sample=1))) == [entries]

    def test_a_limit_holds_over_all_tables_and_ends_the_stream(self) -> None:
        asked = []

        def tables() -> Any:
            for part in range(10):
                asked.append(part)
                yield table(*(entry(f"{part}-{n}") for n in range(3)))

        taken = list(sample_and_limit(tables(), Selection(all=True, limit=7)))
        assert [len(part) for part in taken] == [3, 3, 1]
        assert asked == [0, 1, 2]

    def test_tables_without_a_sampled_row_are_left_out(self) -> None:
        selection = Selection(all=True, sample=1e-9)
        assert list(sample_and_limit([table(entry("a")), table()], selection)) == []
