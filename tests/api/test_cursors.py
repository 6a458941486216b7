"""Cursors give back what they were made of, and refuse everything else."""

from __future__ import annotations

import base64
from datetime import datetime, timezone

import pytest
from apiflask.exceptions import HTTPError
from hypothesis import given
from hypothesis import strategies as st

from resubmit_api.cursors import asked_at, job_cursor, read_job_cursor, read_search_cursor, search_cursor

NOON = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
TIMES = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))


@given(st.text(), TIMES, st.text(max_size=50))
def test_a_search_goes_on_where_its_page_ended(question: str, time: int | None, id: str) -> None:
    assert read_search_cursor(question, search_cursor(question, (time, id), NOON)) == (time, id)


def test_each_page_knows_when_the_first_one_was() -> None:
    assert asked_at(search_cursor("question", (1, "id"), NOON)) == NOON
    assert [asked_at(other) for other in (None, 5, "x", job_cursor("id"))] == [None] * 4


@given(st.text(max_size=50))
def test_a_list_goes_on_where_its_page_ended(id: str) -> None:
    assert read_job_cursor(job_cursor(id)) == id


@given(st.one_of(st.text(), st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_anything_else_is_refused(cursor: str) -> None:
    for read in (read_job_cursor, lambda text: read_search_cursor("question", text)):
        with pytest.raises(HTTPError) as raised:
            read(cursor)
        assert raised.value.status_code == 400


def test_a_cursor_of_a_list_is_none_of_a_search() -> None:
    with pytest.raises(HTTPError):
        read_search_cursor("question", job_cursor("id"))
    with pytest.raises(HTTPError):
        read_job_cursor(search_cursor("question", (1, "id"), NOON))


@pytest.mark.parametrize("text", ['["s","x",1e999,"a"]', '["j","\\ud800"]', "[" * 5000, '["j",["x"]]'])
def test_odd_json_is_refused(text: str) -> None:
    cursor = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    for read in (read_job_cursor, lambda given: read_search_cursor("question", given)):
        with pytest.raises(HTTPError):
            read(cursor)
