"""What the pages are made of: the form of a selection, views of payloads, words and charts."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from resubmit_api.pages.charts import WIDTH, draw, grid
from resubmit_api.pages.request_form import write_rate, write_request
from resubmit_api.pages.selection_form import fill_in, selection_json, write_selection
from resubmit_api.pages.wording import (
    ago,
    curl,
    human_bytes,
    middle,
    number,
    pace,
    pretty_json,
    span,
    ticked,
    utc,
    visible,
)
from tests._entries import selections
from transforms.errors import ConfigurationError
from transforms.payloads import view
from transforms.selection import parse_selection

NOON = datetime(2026, 11, 17, 12, tzinfo=timezone.utc)


def typed(selection: dict[str, Any]) -> MultiDict[str, str] | None:
    """What a browser sends of the form that a selection fills in; None where the form cannot show it all."""
    form = fill_in(selection)
    if not form.complete:
        return None
    lines = [(line.join, line.field, line.operator, line.value) for line in form.conditions]
    columns = zip(("join", "field", "operator", "value"), zip(*lines, strict=True), strict=False)
    fields: dict[str, Any] = {name: list(values) for name, values in columns}
    times = {"from": [form.published_from], "to": [form.published_to]}
    return MultiDict({**fields, **times, "source": list(form.sources), "ids": [form.ids]})


@given(selections())
def test_a_form_that_shows_a_selection_writes_it_again(given: dict[str, Any]) -> None:
    selection = parse_selection(json.dumps(given))
    sent = typed(selection_json(selection))
    if sent is not None:
        assert parse_selection(json.dumps(write_selection(sent))) == selection


def test_lines_are_clauses_by_and_and_or() -> None:
    given = MultiDict(
        {
            "join": ["and", "and", "or"],
            "field": ["attributes.version", "size", "key"],
            "operator": ["in", "gte", "prefix"],
            "value": ["2, 3", "100", "eu-"],
            "from": ["2026-11-17 22:00"],
            "to": ["2026-11-18"],
        }
    )
    assert write_selection(given) == {
        "published_from": "2026-11-17T22:00Z",
        "published_to": "2026-11-18T00:00:00Z",
        "where": [
            {"attributes.version": {"in": ["2", "3"]}, "size": {"gte": 100}},
            {"key": {"prefix": "eu-"}},
        ],
    }


def test_an_empty_form_means_everything_and_a_button_the_last_hour() -> None:
    assert write_selection(MultiDict({"field": [""], "value": [""]})) == {"all": True}
    assert write_selection(MultiDict({"range": ["-1h"], "from": ["2026-01-01"]})) == {"published_from": "-1h"}


def test_lines_that_mean_nothing_are_named_together() -> None:
    lines = {"join": ["and"] * 3, "operator": ["eq", "eq", "gt"], "value": ["1", "2", "many"]}
    with pytest.raises(ConfigurationError) as raised:
        write_selection(MultiDict({**lines, "field": ["topic", "topic", "size"]}))
    assert len(raised.value.problems) == 2


def test_the_form_of_a_request_names_options_that_are_not_the_default() -> None:
    plain = {"destination": "main", "topic": " orders ", "selection": '{"ids": ["a"]}', "order": "partition"}
    body = {"destination": "main", "topic": "orders", "selection": {"ids": ["a"]}}
    assert write_request(MultiDict(plain)) == body
    more = {**plain, "limit": "1,000", "percent": "50", "restore": "1", "timestamp": "now"}
    assert write_request(MultiDict(more)) == {
        **body,
        "selection": {"ids": ["a"], "limit": 1000, "sample": 0.5},
        "options": {"timestamp": "now", "restore": True},
    }
    rate = {"messages_per_second": 200.0, "bytes_per_second": None}
    assert write_rate(MultiDict({"messages_per_second": "200"})) == rate
    for wrong in ("", "[", "[]", "1"):
        with pytest.raises(ConfigurationError):
            write_request(MultiDict({**plain, "selection": wrong}))


def test_json_is_laid_out_without_changing_what_it_says() -> None:
    text = '{"a":1.10,"a":12345678901234567890,"b":["{ }",[]],"c":{}}'
    shown = view(text.encode(), None)
    assert shown.kind == "json"
    assert shown.text.splitlines()[1:3] == ['  "a": 1.10,', '  "a": 12345678901234567890,']
    assert "".join(shown.text.split()) == "".join(text.split())
    assert (shown.shown, shown.size) == (len(text), len(text))


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda part: st.lists(part) | st.dictionaries(st.text(), part)
    )
)
def test_json_that_is_laid_out_says_the_same(value: Any) -> None:
    shown = view(json.dumps([value]).encode(), "json")
    assert json.loads(shown.text) == [value]


def test_no_more_of_a_payload_is_shown_than_a_page_bears() -> None:
    for data in (
        b"x" * 3_000_000,
        b'["' + b"x" * 500_000 + b'"]',
        b"[" + b"1," * 200_000 + b"1]",
        bytes(10**6),
    ):
        for wanted in ("json", "text", "hex"):
            shown = view(data, wanted)
            assert len(shown.text) <= 65_536
            assert shown.shown < shown.size == len(data)
    assert view("é".encode() * 40_000, None).text == "é" * 32_768


def test_a_payload_is_shown_as_what_it_is() -> None:
    assert view(b"\xff\x00", None).kinds == ("hex",)
    assert view(b"\xff\x00A", None).text.split() == ["00000000", "ff", "00", "41", "··A"]
    assert view(b"plain", "json").kinds == ("text", "hex")
    assert view(b"[" * 100_000, None).kind == "text"


def test_foreign_text_is_seen_and_does_not_act() -> None:
    assert visible("<b>&\n") == "&lt;b&gt;&amp;\n"
    assert str(visible("a\u202eb")) == (
        'a<span class="control" title="RIGHT-TO-LEFT OVERRIDE">U+202E</span>b'
    )
    assert json.loads(pretty_json({"\u202e": "\x7fé\ud800"})) == {"\u202e": "\x7fé\ud800"}
    assert "\u202e" not in pretty_json("\u202e")


def test_figures_and_times_are_written_in_words() -> None:
    assert [number(value) for value in (None, 0, 12_003, 0.03, 1.25, 12.5)] == [
        "\u2013",
        "0",
        "12,003",
        "< 0.1",
        "1.2",
        "12",
    ]
    assert [human_bytes(value) for value in (0, 999, 1000, 744_000, 10**15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "744 kB",
        "1.0 PB",
    ]
    told = {0.00002: "20 µs", 0.05: "50 ms", 0.4: "0.4 s", 65: "1 min 5 s", 3600: "1 h", 90_000: "1 d 1 h"}
    assert {value: span(value) for value in told} == told
    assert span(None) == "\u2013"
    assert utc("2026-11-17T14:00:00.123456+02:00", 3) == "2026-11-17 12:00:00.123"
    assert ago(NOON, NOON + timedelta(minutes=3)) == "3 min ago"
    assert ago(NOON, NOON - timedelta(hours=2)) == "in 2 h"


def test_a_pace_is_written_and_read_in_words() -> None:
    none = {"messages_per_second": None, "bytes_per_second": None}
    assert pace(none) == "without a rate limit"
    assert pace({"messages_per_second": 0.5, "bytes_per_second": 5e6}) == (
        "at most 0.5 messages and 5.0 MB per second"
    )
    for text, size in (("5 MB", 5e6), ("2.5k", 2500.0), ("1,000", 1000.0), ("7 b", 7.0), ("", None)):
        assert write_rate(MultiDict({"bytes_per_second": text})) == none | {"bytes_per_second": size}
    for wrong in ("MB", "5 TB", "-1", "1e3", "k"):
        with pytest.raises(ConfigurationError, match=f"bytes per second: “{wrong}” is not a number"):
            write_rate(MultiDict({"bytes_per_second": wrong}))


def test_long_names_keep_the_end_that_distinguishes_them() -> None:
    assert middle("orders_0_1") == "orders_0_1"
    assert middle("a" * 100 + "_0_1841", 20) == "aaaaaaaaaa…aa_0_1841"


def test_names_between_backticks_are_code_and_the_rest_stays_text() -> None:
    assert ticked("`{id}` is <b>") == "<code>{id}</code> is &lt;b&gt;"


def test_a_request_is_shown_as_a_command_that_a_shell_takes_apart_again() -> None:
    line = curl("http://x", "POST", "/v1/plans", {"topic": "it's"}, token=True)
    assert line == (
        'curl -sS http://x/v1/plans -H "Authorization: Bearer $PERSISTOR_TOKEN" '
        "-H 'Content-Type: application/json' -d '{\"topic\": \"it'\"'\"'s\"}'"
    )
    assert (
        curl("http://x", "PATCH", "/a", {})
        == "curl -sS -X PATCH http://x/a -H 'Content-Type: application/json' -d '{}'"
    )


@pytest.mark.parametrize("seconds", [0, 0.00001, 1, 59, 86_400, 40_000_000, 3_000_000_000])
def test_a_chart_has_at_most_sixty_bars_and_all_messages(seconds: float) -> None:
    newest = NOON + timedelta(seconds=seconds)
    start, width = grid(NOON, newest)
    ends = [
        (time - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)
        for time in (NOON, newest)
    ]
    counts = {(end - start) // width: 5 for end in ends}
    chart = draw(counts, start, width)
    assert 1 <= len(chart.bars) <= 60
    assert chart.bars[0].start <= NOON < chart.bars[0].end
    assert chart.bars[-1].start <= newest < chart.bars[-1].end
    assert chart.peak == 5
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH for bar in chart.bars)
