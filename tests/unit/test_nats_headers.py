"""NATS headers survive the wire, and so does their disguise."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.brokers.nats.headers import decode_headers, encode_headers
from transforms.brokers.nats.streams import meet
from transforms.model import HEADERS

NAMES = st.one_of(
    st.sampled_from(["Nats-Msg-Id", "nats-rollup", "Persistor-Nats-TTL", "a", "A", "Status", "a ", " ü"]),
    st.text(st.characters(exclude_characters=":\r\n", exclude_categories=["Cs"]), min_size=1, max_size=6),
)
VALUES = st.one_of(
    st.sampled_from([b"", b" ", b": ", b"persistor:x:1"]),
    st.binary(max_size=8).filter(lambda v: not {10, 13} & set(v)),
)
ROWS = st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=4), max_size=5)
SUBJECTS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3)


def column(rows: list[list[tuple[str, bytes | None]]]) -> pa.Array:
    return pa.array([[{"name": name, "value": value} for name, value in row] for row in rows], HEADERS)


@given(ROWS)
@settings(max_examples=100, deadline=None)
def test_headers_are_decoded_as_they_were_encoded(rows: list[list[tuple[str, bytes]]]) -> None:
    headers = column(rows)
    ids = pa.array([f"s_0_{number}" for number in range(len(rows))], pa.string())
    blocks, refused = encode_headers(ids, headers, [], "job-0")
    assert decode_headers(blocks).equals(headers)
    assert not refused.any()


def test_archived_orders_to_the_server_are_disguised_and_ours_comes_first() -> None:
    blocks, _ = encode_headers(
        pa.array(["s_0_7"]), column([[("Nats-Rollup", b"all"), ("h", b"1")]]), [("extra", b"2")], "job-0"
    )
    assert b"".join(blocks).split(b"\r\n") == [
        b"NATS/1.0",
        b"Nats-Msg-Id: persistor:job-0:s_0_7",
        b"Persistor-Nats-Rollup: all",
        b"h: 1",
        b"extra: 2",
        b"",
        b"",
    ]


def test_a_producer_s_own_orders_are_kept_as_they_are() -> None:
    block = b"NATS/1.0\r\nNats-Msg-Id: order-7\r\nPersistor-Nats-X: 1\r\n\r\n"
    assert decode_headers([block]).equals(column([[("Nats-Msg-Id", b"order-7"), ("Persistor-Nats-X", b"1")]]))


def test_other_ways_to_write_headers_are_understood() -> None:
    blocks = [
        b"NATS/1.0\r\na:1\r\nb:  2\r\nno colon\r\n\r\n",
        b"",
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0\r\n\xff: \xff\r\n\r\n",
    ]
    assert decode_headers(blocks).to_pylist() == [
        [{"name": "a", "value": b"1"}, {"name": "b", "value": b" 2"}, {"name": "no colon", "value": b""}],
        [],
        [],
        [{"name": "\\xff", "value": b"\xff"}],
    ]


def test_no_message_has_no_headers() -> None:
    assert decode_headers([]).type == HEADERS


def test_what_would_be_read_back_as_something_else_is_refused() -> None:
    rows = [[("a:b", b"")], [("a", b"1\nNats-Rollup: all")], [("", b"")], [("a\r", b"")], [("ok", b"1")], []]
    _, refused = encode_headers(pa.nulls(6, pa.string()), column(rows), [], "job-0")
    assert refused.tolist() == [True, True, True, True, False, False]


def matches(pattern: list[str], subject: tuple[str, ...]) -> bool:
    if pattern[-1] == ">":
        return len(subject) >= len(pattern) and matches([*pattern[:-1]], subject[: len(pattern) - 1])
    return len(pattern) == len(subject) and all(p in ("*", s) for p, s in zip(pattern, subject, strict=True))


@given(SUBJECTS, st.booleans(), SUBJECTS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_patterns_meet_in_exactly_the_subjects_that_both_match(
    one: list[str], one_open: bool, other: list[str], other_open: bool
) -> None:
    one, other = one + [">"] * one_open, other + [">"] * other_open
    met = meet(".".join(one), ".".join(other))
    for subject in [
        (a, b, c, d)[:n] for n in (1, 2, 3, 4) for a in "ab" for b in "ab" for c in "ab" for d in "ab"
    ]:
        both = matches(one, subject) and matches(other, subject)
        assert both == (met is not None and matches(met.split("."), subject))
