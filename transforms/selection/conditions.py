"""The conditions of a selection's clauses: their types, limits and JSON form.

Wrong types raise ``ValueError``, because pydantic collects it but not ``TypeError``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from transforms.times import microseconds

__all__ = [
    "FIELDS",
    "MAX_STRING",
    "Condition",
    "clause_to_json",
    "parse_clause",
    "parse_time",
]

MAX_STRING = 4096
_MAX_CONDITIONS = 50
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")
_AWARE = TypeAdapter(AwareDatetime)
_ATTRIBUTE = "attributes."

_ORDERED = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "exists")
_OPERATORS = {
    "id": (*_ORDERED, "prefix"),
    "key": ("eq", "in", "prefix"),
    "topic": (*_ORDERED, "prefix"),
    "partition": _ORDERED,
    "offset": _ORDERED,
    "publish_time": _ORDERED,
    "size": _ORDERED,
    "attributes": (*_ORDERED, "prefix"),
}
FIELDS = tuple(name for name in _OPERATORS if name != "attributes")
"""The fields that conditions compare, besides the attributes."""


@dataclass(frozen=True)
class Condition:
    """One comparison of one field.

    Attributes:
        field: a column of ``ENTRY_SCHEMA``.
        operator: ``eq ne gt gte lt lte in nin exists prefix``.
        values: one value, any number for ``in`` and ``nin``: str, for ``key`` bytes, int for
            numbers and for publish times (µs since 1970), bool for ``exists``.
        attribute: the name of the attribute if ``field`` is ``attributes``.
    """

    field: str
    operator: str
    values: tuple[Any, ...]
    attribute: str | None = None

    @property
    def value(self) -> Any:
        """The value of an operator that has one."""
        return self.values[0]


def parse_clause(value: object) -> tuple[Condition, ...]:
    """Conditions from a clause's JSON object; raises ``ValueError`` with all problems."""
    if isinstance(value, tuple) and all(isinstance(c, Condition) for c in value):
        return value
    if not isinstance(value, dict) or not value:
        raise ValueError('write a clause as an object with conditions, such as {"attributes.version": "2"}')
    problems: list[str] = []
    fields = [_parse_field(name, comparisons, problems) for name, comparisons in value.items()]
    conditions = [condition for field in fields for condition in field]
    if len(conditions) > _MAX_CONDITIONS:
        problems.append(f"more than {_MAX_CONDITIONS} conditions")
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(conditions)


def clause_to_json(clause: tuple[Condition, ...]) -> dict[str, Any]:
    """The inverse of :func:`parse_clause`."""
    fields: dict[str, Any] = {}
    for condition in clause:
        name = condition.field if condition.attribute is None else _ATTRIBUTE + condition.attribute
        values = [_value_to_json(condition, value) for value in condition.values]
        many = condition.operator in ("in", "nin")
        fields.setdefault(name, {})[condition.operator] = values if many else values[0]
    return fields


def parse_time(value: object) -> datetime:
    """Parse a time with its zone from ISO 8601 text; raises ``ValueError``."""
    if isinstance(value, str) and not _ISO_TIME.match(value):
        value = None
    if not isinstance(value, (str, datetime)):
        raise ValueError('write a time as "2026-11-01T00:00:00Z", with its time zone')  # noqa: TRY004
    try:
        time = _AWARE.validate_python(value)
        time.astimezone(timezone.utc)
    except ValidationError as error:
        raise ValueError(
            f'{error.errors()[0]["msg"]}; write it as "2026-11-01T00:00:00Z", with its time zone'
        ) from error
    except OverflowError as error:
        raise ValueError("a time must be within the years 1 to 9999, also in UTC") from error
    return time


def _parse_field(name: str, comparisons: object, problems: list[str]) -> list[Condition]:
    try:
        return _parse_comparisons(name, comparisons)
    except ValueError as error:
        problems.append(f"{_short(name)}: {error}")
        return []


def _parse_comparisons(name: str, comparisons: object) -> list[Condition]:
    field, attribute = _parse_name(name)
    if not isinstance(comparisons, dict) or set(comparisons) == {"base64"}:
        comparisons = {"eq": comparisons}
    if not comparisons:
        raise ValueError("has no operator")
    return [_parse_comparison(field, attribute, operator, value) for operator, value in comparisons.items()]


def _parse_name(name: str) -> tuple[str, str | None]:
    if name.startswith(_ATTRIBUTE):
        return "attributes", _parse_string(name[len(_ATTRIBUTE) :])
    if name not in _OPERATORS or name == "attributes":
        known = ", ".join(field for field in _OPERATORS if field != "attributes")
        raise ValueError(f"unknown field; known are {known} and attributes.NAME")
    return name, None


def _parse_comparison(field: str, attribute: str | None, operator: str, value: object) -> Condition:
    if operator not in _OPERATORS[field]:
        known = ", ".join(_OPERATORS[field])
        raise ValueError(f"operator {_short(operator)} is not allowed here; allowed are {known}")
    if operator == "exists":
        if not isinstance(value, bool):
            raise ValueError("exists takes true or false")
        return Condition(field, operator, (value,), attribute)
    parse = _PARSERS[field]
    if operator not in ("in", "nin"):
        return Condition(field, operator, (parse(value),), attribute)
    if not isinstance(value, list) or not value:
        raise ValueError(f"{operator} takes a list with at least one value")
    return Condition(field, operator, tuple(parse(item) for item in value), attribute)


def _parse_string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"takes a string in quotes, not {_kind(value)}")  # noqa: TRY004
    if len(value) > MAX_STRING:
        raise ValueError(f"a string is longer than {MAX_STRING} characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("a string contains a lone surrogate, which is not valid Unicode")
    return value


def _parse_key(value: object) -> bytes:
    if not isinstance(value, dict):
        return _parse_string(value).encode()
    if set(value) != {"base64"}:
        raise ValueError('takes a string, or {"base64": "…"} for bytes')
    try:
        return base64.b64decode(_parse_string(value["base64"]), validate=True)
    except binascii.Error as error:
        raise ValueError("base64 is not valid") from error


def _parse_integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"takes an integer, not {_kind(value)}")  # noqa: TRY004
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("an integer does not fit 64 bits")
    return value


def _parse_microseconds(value: object) -> int:
    return microseconds(parse_time(value))


_PARSERS: dict[str, Callable[[object], Any]] = {
    "id": _parse_string,
    "key": _parse_key,
    "topic": _parse_string,
    "partition": _parse_integer,
    "offset": _parse_integer,
    "publish_time": _parse_microseconds,
    "size": _parse_integer,
    "attributes": _parse_string,
}


def _value_to_json(condition: Condition, value: Any) -> Any:
    if condition.field == "publish_time" and condition.operator != "exists":
        return (_EPOCH + timedelta(microseconds=value)).isoformat()
    return _bytes_to_json(value) if isinstance(value, bytes) else value


def _bytes_to_json(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _kind(value: object) -> str:
    if value is None:
        return "null (a missing field is exists: false)"
    names = {bool: "true or false", int: "a number", float: "a fraction", list: "a list (use in)"}
    return names.get(type(value), "an object" if isinstance(value, dict) else "a string")


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:57] + "…")
