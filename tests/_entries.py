"""Tables of index entries and selections of them, tame and hostile."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from transforms.model import ENTRY_SCHEMA

__all__ = ["entry", "entry_tables", "selections", "stream", "table"]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
NOON = 1_700_000_000_000_000

_PARTS = ["a", "A", "'", '"', "$", ".", "\0", "%", "_", "\uffff", "\U00010000", "é", "\\", "{", "\U0010ffff"]
_STRINGS = st.one_of(
    st.sampled_from(["", *_PARTS]), st.lists(st.sampled_from(_PARTS), max_size=3).map("".join)
)
_NAMES = st.one_of(st.sampled_from(["", "a", "a.b", "$a", "%24a", "0", "a\0"]), _STRINGS)
_KEYS = st.one_of(
    st.sampled_from([b"", b"\xff", b"\xc3", b"\xe2\x82", b"a\xff\x00"]),
    _STRINGS.map(str.encode),
    st.lists(st.sampled_from([b"\xe2", b"\x82", b"\xac", b"\xff", b"\x00", b"a", b"\xc3"]), max_size=3).map(
        b"".join
    ),
)
_NUMBERS = st.one_of(st.integers(0, 3), st.sampled_from([2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1]))
_PARTITIONS = st.one_of(st.integers(0, 3), st.just(2**31 - 1))
_TIMES = st.sampled_from([-1001, -1000, -1, 0, 1, NOON, NOON + 1, NOON + 999, NOON + 1000, NOON + 1001])


def entry(id: str = "orders_0_0", **values: Any) -> dict[str, Any]:
    """One entry; what is not given is as plain as can be."""
    plain = {"id": id, "source": "orders", "incarnation": 1, "topic": "orders", "partition": 0, "offset": 0}
    where = {"location": "file:///lake/orders/orders-0-0.parquet", "position": 0}
    time = EPOCH + timedelta(microseconds=NOON)
    rest = {
        "publish_time": time,
        "ingestion_time": time,
        "key": None,
        "attributes": [],
        "size": 1,
        "traits": 0,
    }
    return {**plain, **where, **rest, "checksum": 1, **values}


def table(*entries: dict[str, Any]) -> pa.Table:
    """A table of entries made by :func:`entry`."""
    return pa.Table.from_pylist(list(entries), schema=ENTRY_SCHEMA)


def stream(first: int, count: int, source: str = "orders") -> pa.Table:
    """``count`` messages of one source, offsets over 4 partitions, every third at the same microsecond."""
    return table(
        *(
            entry(
                f"{source}_{number % 4}_{number // 4}",
                source=source,
                topic=source,
                partition=number % 4,
                offset=number // 4,
                publish_time=EPOCH + timedelta(microseconds=NOON + number // 3),
                key=f"key{number % 7}".encode(),
                attributes=[("version", str(number % 3))],
                checksum=number,
                position=number,
            )
            for number in range(first, first + count)
        )
    )


_ENTRIES = st.fixed_dictionaries(
    {
        "id": _STRINGS,
        "source": st.sampled_from(["orders", "Orders", "é", "\U00010000", "\uffff"]),
        "incarnation": st.integers(1, 2),
        "topic": _STRINGS,
        "partition": st.one_of(st.none(), _PARTITIONS),
        "offset": st.one_of(st.none(), _NUMBERS),
        "publish_time": st.one_of(st.none(), _TIMES.map(lambda us: EPOCH + timedelta(microseconds=us))),
        "key": st.one_of(st.none(), _KEYS),
        "attributes": st.dictionaries(_NAMES, _STRINGS, max_size=3).map(lambda pairs: list(pairs.items())),
        "size": st.integers(0, 2**31),
        "traits": st.integers(0, 3),
        "checksum": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        "location": st.sampled_from(["file:///lake/a", "file:///lake/'$.b"]),
        "position": st.integers(0, 5),
    }
).map(lambda values: entry(**values))


def entry_tables() -> st.SearchStrategy[pa.Table]:
    """Up to 12 entries of different ids."""
    return st.lists(_ENTRIES, max_size=12, unique_by=lambda values: values["id"]).map(
        lambda rows: table(*rows)
    )


def _comparisons(values: st.SearchStrategy[Any], *more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    single = st.tuples(st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"]), values)
    several = st.tuples(st.sampled_from(["in", "nin"]), st.lists(values, min_size=1, max_size=3))
    exists = st.tuples(st.just("exists"), st.booleans())
    return st.lists(st.one_of(single, several, exists, *more), min_size=1, max_size=2).map(dict)


def _texts() -> st.SearchStrategy[Any]:
    return st.one_of(_STRINGS, _comparisons(_STRINGS, st.tuples(st.just("prefix"), _STRINGS)))


def _time_text(us: int) -> str:
    return (EPOCH + timedelta(microseconds=us)).isoformat()


_KEY_VALUES = _KEYS.map(lambda key: {"base64": base64.b64encode(key).decode()})
_KEY_CONDITIONS = st.one_of(
    _KEY_VALUES,
    _KEY_VALUES.map(lambda value: {"prefix": value}),
    st.lists(_KEY_VALUES, min_size=1, max_size=3).map(lambda values: {"in": values}),
)
_CONDITIONS = st.one_of(
    st.tuples(st.sampled_from(["id", "topic"]), _texts()),
    st.tuples(_NAMES.map("attributes.".__add__), _texts()),
    st.tuples(st.sampled_from(["partition", "offset", "size"]), st.one_of(_NUMBERS, _comparisons(_NUMBERS))),
    st.tuples(st.just("publish_time"), _comparisons(_TIMES.map(_time_text))),
    st.tuples(st.just("key"), _KEY_CONDITIONS),
)
_CLAUSES = st.lists(_CONDITIONS, min_size=1, max_size=3).map(dict)


def selections() -> st.SearchStrategy[dict[str, Any]]:
    """The JSON values of selections that fit :func:`entry_tables`."""
    sources = st.sampled_from(["orders", "Orders", "é", "\U00010000", "unknown"])
    optional = {
        "sources": st.lists(sources, min_size=1, max_size=3),
        "published_from": st.sampled_from([-1001, -1, 0, NOON, NOON + 1]).map(_time_text),
        "published_to": st.sampled_from([NOON + 2, NOON + 1000, NOON + 1001]).map(_time_text),
        "ids": st.lists(_STRINGS, min_size=1, max_size=5),
    }
    given = st.fixed_dictionaries({"where": st.lists(_CLAUSES, min_size=1, max_size=3)}, optional=optional)
    without = st.fixed_dictionaries({}, optional=optional).map(lambda value: value or {"all": True})
    return st.one_of(given, given, without)
