"""A selection as conditions on MongoDB documents.

Without a collation MongoDB compares strings as UTF-8 bytes, and never values of different types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bson.datetime_ms import DatetimeMS

from transforms.selection import Condition, Selection

__all__ = ["BINARY_KEY", "FOREIGN", "Query", "behind", "by_id", "escape", "exact", "indexed", "unescape"]

Query = dict[str, Any]

FOREIGN: Query = {"_id": {"$type": "objectId"}}
"""Matches documents written by Dataphos Persistor; ours have the message's id."""

BINARY_KEY = "ordering_key_bytes"
"""Field for a key that is not UTF-8, each byte as the character with its number: U+0000 to U+00FF.

MongoDB orders binary values by length first, so it could not find them by prefix.
"""

_FIELDS = {
    "id": "unique_id",
    "topic": "topic",
    "partition": "partition",
    "offset": "offset",
    "publish_time": "publish_time_us",
    "size": "size",
}
_COMPARISONS = {
    "eq": "$eq",
    "gt": "$gt",
    "gte": "$gte",
    "lt": "$lt",
    "lte": "$lte",
    "in": "$in",
    "prefix": "",
}
_LAST_CHARACTER = 0x10FFFF


def escape(name: str) -> str:
    """An attribute's name as a field name: no path, no operator, no NUL, not empty. Reversible."""
    if not name:
        return "%"
    escaped = name.replace("%", "%25").replace(".", "%2E").replace("\0", "%00")
    return "%24" + escaped[1:] if escaped[0] == "$" else escaped


def unescape(name: str) -> str:
    """The inverse of :func:`escape`."""
    if name == "%":
        return ""
    name = name.replace("%24", "$").replace("%00", "\0").replace("%2E", ".")
    return name.replace("%25", "%")


def indexed(selection: Selection, *, foreign: bool) -> Query:
    """The part of a selection that the indexes can find; the rest is :func:`exact`."""
    parts: list[Query] = [by_id(selection.ids, foreign=foreign)] if selection.ids else []
    if selection.sources:
        parts.append({"broker_id": {"$in": list(selection.sources)}})
    if selection.from_us is not None:
        parts.append({"publish_time": {"$gte": DatetimeMS(selection.from_us // 1000)}})
    if selection.to_us is not None:
        parts.append({"publish_time": {"$lte": DatetimeMS((selection.to_us - 1) // 1000)}})
    return _all(parts)


def exact(selection: Selection, *, foreign: bool) -> Query:
    """Publish times to the µs and ``where``, on documents that have all of our fields."""
    bounds = (("$gte", selection.from_us), ("$lt", selection.to_us))
    parts: list[Query] = [{"publish_time_us": {operator: us}} for operator, us in bounds if us is not None]
    if selection.where:
        clauses = [_all([_condition(c, foreign) for c in clause]) for clause in selection.where]
        parts.append({"$or": clauses})
    return _all(parts)


def behind(after: tuple[int | None, str] | None) -> Query:
    """Documents after a row in the order of publish time and id; no publish time comes first."""
    if after is None:
        return {}
    us, id = after
    same = {"publish_time_us": us, "unique_id": {"$gt": id}}
    if us is None:
        return {"$or": [same, {"publish_time_us": {"$ne": None}}]}
    later = {"$or": [same, {"publish_time_us": {"$gt": us}}]}
    return {"$and": [{"publish_time": {"$gte": DatetimeMS(us // 1000)}}, later]}


def by_id(ids: Sequence[str], *, foreign: bool) -> Query:
    """Messages by their ids, through an index."""
    ours = {"_id": {"$in": list(ids)}}
    return {"$or": [ours, {"unique_id": {"$in": list(ids)}, **FOREIGN}]} if foreign else ours


def _all(parts: Sequence[Query]) -> Query:
    return {"$and": list(parts)} if parts else {}


def _condition(condition: Condition, foreign: bool) -> Query:
    if condition.field == "key":
        return _key(condition)
    if condition.attribute is not None:
        field = f"additional_metadata.{escape(condition.attribute)}"
    else:
        field = _FIELDS[condition.field]
    if field == "unique_id" and not foreign:
        field = "_id"
    return {field: _comparison(condition.operator, condition.values)}


def _comparison(operator: str, values: Sequence[Any]) -> Query:
    # Null stands for missing: {"$ne": None} is true only for existing fields.
    if operator == "exists":
        return {"$ne": None} if values[0] else {"$eq": None}
    if operator in ("ne", "nin"):
        return {"$nin": [*values, None]}
    if operator == "prefix":
        return _starts_with(values[0], values[0])
    return {_COMPARISONS[operator]: list(values) if operator == "in" else values[0]}


def _starts_with(first: str, last: str) -> Query:
    """Strings from those that begin with ``first`` to those that begin with ``last``."""
    while last and ord(last[-1]) == _LAST_CHARACTER:
        last = last[:-1]
    if not last:
        return {"$gte": first}
    following = ord(last[-1]) + 1
    # U+D800 to U+DFFF are not characters, so U+E000 follows U+D7FF.
    return {"$gte": first, "$lt": last[:-1] + chr(0xE000 if following == 0xD800 else following)}


def _key(condition: Condition) -> Query:
    if condition.operator == "prefix":
        start = condition.value
        binary = {BINARY_KEY: _starts_with(start.decode("latin-1"), start.decode("latin-1"))}
        bounds = _text_prefixes(start)
        return {"$or": [binary, {"ordering_key": _starts_with(*bounds)}]} if bounds else binary
    texts = [text for value in condition.values if (text := _decoded(value)) is not None]
    others = [value.decode("latin-1") for value in condition.values if _decoded(value) is None]
    return {"$or": [{"ordering_key": {"$in": texts}}, {BINARY_KEY: {"$in": others}}]}


def _text_prefixes(start: bytes) -> tuple[str, str] | None:
    """The first and last text that begin with these bytes, which may end within a character."""
    text = start.decode(errors="ignore")
    rest = start[len(text.encode()) :]
    if not rest:
        return text, text
    if not start.startswith(text.encode()) or len(rest) > 3:
        return None
    characters = [c for tail in _tails(rest) if (c := _decoded(rest + tail)) is not None]
    return (text + characters[0], text + characters[-1]) if characters else None


def _tails(rest: bytes) -> list[bytes]:
    """The lowest and highest ends of a character, by its next byte."""
    missing = (2 if rest[0] < 0xE0 else 3 if rest[0] < 0xF0 else 4) - len(rest)
    if missing < 1:
        return []
    ends = (b"\x80" * (missing - 1), b"\xbf" * (missing - 1))
    return [bytes([following]) + end for following in range(0x80, 0xC0) for end in ends]


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
