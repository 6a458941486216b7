"""Selections written as words of a command line mean what their JSON means."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from transforms.errors import ConfigurationError
from transforms.selection import Selection, read_selection
from transforms.selection.typed import typed_selection


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ({"sources": ["a", "b"]}, {"sources": ["a", "b"]}),
        ({"ids": ["a_0_1"], "limit": 5}, {"ids": ["a_0_1"], "limit": 5}),
        ({"published_from": "2026-11-01"}, {"published_from": "2026-11-01T00:00:00Z"}),
        (
            {"published_to": "2026-11-01T06:00:00+01:00"},
            {"published_to": "2026-11-01T05:00:00Z"},
        ),
        (
            {"where": ["attributes.version=2", "key^=customer-00"]},
            {"where": [{"attributes.version": {"eq": "2"}, "key": {"prefix": "customer-00"}}]},
        ),
        (
            {"where": ["offset>=100", "offset < 200", "partition!=3"]},
            {"where": [{"offset": {"gte": 100, "lt": 200}, "partition": {"ne": 3}}]},
        ),
        (
            {"where": ["attributes.trace", "!attributes.test"]},
            {"where": [{"attributes.trace": {"exists": True}, "attributes.test": {"exists": False}}]},
        ),
        ({"where": ["attributes.a=b=c"]}, {"where": [{"attributes.a": {"eq": "b=c"}}]}),
        ({"where": ["attributes.a="]}, {"where": [{"attributes.a": {"eq": ""}}]}),
        (
            {"where": ["publish_time>=2026-11-01"]},
            {"where": [{"publish_time": {"gte": "2026-11-01T00:00:00Z"}}]},
        ),
        ({}, {"all": True}),
    ],
)
def test_words_mean_what_json_means(words: dict[str, Any], meant: dict[str, Any]) -> None:
    assert typed_selection(**words) == read_selection(meant)


def test_a_time_before_now_is_one() -> None:
    found = typed_selection(published_from="-1h", published_to="now")
    assert found.published_from
    assert found.published_to
    assert found.published_to - found.published_from == timedelta(hours=1)
    assert abs(datetime.now(timezone.utc) - found.published_to) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"where": ["offset=x"]}, "where 'offset=x': offset takes a whole number"),
        ({"where": ["=2"]}, "write FIELD=VALUE"),
        ({"where": ["offset=1", "offset=2"]}, "offset is compared twice"),
        ({"where": ["colour=red"]}, "colour"),
        ({"where": ["key>a"]}, "key"),
        ({"published_from": "yesterday"}, "published_from: write a time as"),
        ({"published_from": "now", "published_to": "-1h"}, "published_from must be before"),
        ({"sources": [""] * 10_001}, "sources"),
    ],
)
def test_what_cannot_be_meant_is_explained(words: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        typed_selection(**words)
    assert problem in "\n".join(refused.value.problems)


def test_every_problem_is_listed() -> None:
    with pytest.raises(ConfigurationError) as refused:
        typed_selection(where=["offset=x", "=2"])
    assert len(refused.value.problems) == 2


def test_no_part_of_a_selection_is_out_of_reach() -> None:
    """``sample`` alone takes JSON: it belongs to load tests, not to looking."""
    parts = {"sources", "published_from", "published_to", "ids", "where", "limit"}
    assert set(Selection.model_fields) - parts == {"all", "sample"}
