"""A selection written as words of a command line: sources, times, ids and comparisons."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from transforms.errors import ConfigurationError
from transforms.selection import Selection, read_selection
from transforms.selection.conditions import FIELDS

__all__ = ["WHERE", "typed_selection"]

WHERE = "FIELD=VALUE"
"""How a comparison is written; :func:`typed_selection` lists the others."""

_OPERATORS = {"=": "eq", "!=": "ne", "^=": "prefix", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_NUMBERS = ("partition", "offset", "size")
_COMPARISON = re.compile(r"(.+?)\s*(!=|\^=|>=|<=|=|>|<)(.*)", re.DOTALL)
_MISSING = re.compile(r"(!?)(attributes\..+|\w+)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_HOW = (
    "write FIELD=VALUE with =, !=, ^= (begins with), <, <=, > or >=; FIELD alone (it is there), or !FIELD "
    f"(it is not). FIELD is {', '.join(FIELDS)} or attributes.NAME"
)


def typed_selection(
    *,
    sources: Sequence[str] = (),
    published_from: str | None = None,
    published_to: str | None = None,
    ids: Sequence[str] = (),
    where: Sequence[str] = (),
    limit: int | None = None,
) -> Selection:
    """The selection that the words mean; without any, of everything.

    Args:
        sources: names of sources.
        published_from: earliest publish time, inclusive: ISO 8601 with its zone, a date (UTC), ``now``, or
            a time before now such as ``-1h``.
        published_to: latest publish time, exclusive; written in the same way.
        ids: message ids.
        where: comparisons, which must all hold, such as ``attributes.version=2``, ``key^=customer-00``,
            ``offset>=100``, ``attributes.trace`` (there is one) and ``!key`` (there is none).
        limit: at most this many messages.

    Raises:
        ConfigurationError: lists every problem.
    """
    clause, problems = _clause(where)
    if problems:
        raise ConfigurationError(problems)
    given: dict[str, Any] = {
        "sources": list(sources),
        "published_from": _time(published_from),
        "published_to": _time(published_to),
        "ids": list(ids),
        "where": [clause] if clause else [],
    }
    parts = {name: value for name, value in given.items() if value}
    return read_selection((parts or {"all": True}) | ({"limit": limit} if limit else {}))


def _time(text: str | None) -> str | None:
    return f"{text}T00:00:00Z" if text and _DATE.fullmatch(text) else text


def _clause(where: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    clause: dict[str, dict[str, Any]] = {}
    problems = []
    for text in where:
        try:
            name, operator, value = _comparison(text)
        except ValueError as error:
            problems.append(f"selection: where {text!r}: {error}.")
            continue
        if operator in clause.setdefault(name, {}):
            problems.append(
                f"selection: where {text!r}: {name} is compared twice in this way; all comparisons must hold."
            )
        clause[name][operator] = value
    return clause, problems


def _comparison(text: str) -> tuple[str, str, Any]:
    if found := _COMPARISON.fullmatch(text):
        name, operator, value = found.groups()
        return name, _OPERATORS[operator], _value(name, value.strip())
    if found := _MISSING.fullmatch(text):
        return found[2], "exists", not found[1]
    raise ValueError(_HOW)


def _value(name: str, text: str) -> Any:
    if name not in _NUMBERS:
        return _time(text) if name == "publish_time" else text
    if not re.fullmatch(r"-?[0-9]+", text):
        raise ValueError(f"{name} takes a whole number")
    return int(text)
