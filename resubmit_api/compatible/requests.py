"""Parses requests to Dataphos Persistor's APIs and words their errors like it does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from transforms.selection import Selection

__all__ = [
    "UTC",
    "BindingError",
    "RefusedError",
    "filters",
    "parse_body",
    "parse_time",
    "select",
    "string",
    "strings",
]

UTC = "2006-01-02T15:04:05.99999999Z"
"""The time format of that product in addresses and filters."""

_RFC3339 = "2006-01-02T15:04:05Z07:00"
_AWARE = TypeAdapter(AwareDatetime)
_KINDS = {bool: "bool", str: "string", int: "number", float: "number", list: "array", dict: "object"}


class RefusedError(Exception):
    """The request cannot be carried out; the text may be shown to the caller."""


class BindingError(Exception):
    """The body does not match the endpoint; the text may be shown to the caller."""


def parse_body(data: bytes, struct: str) -> dict[str, Any]:
    """The JSON object of a body, whatever its content type; ``struct`` is its name in errors."""
    try:
        value = json.loads(data)
    except json.JSONDecodeError as error:
        ended = error.pos >= len(error.doc.rstrip())
        raise BindingError("unexpected EOF" if ended else f"invalid JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise BindingError("invalid JSON") from error
    if not isinstance(value, dict):
        raise BindingError(
            f"json: cannot unmarshal {_KINDS.get(type(value), 'null')} into Go value of type {struct}"
        )
    return value


def strings(body: Mapping[str, Any], name: str, struct: str) -> list[str]:
    """A required list of strings, which may be empty."""
    found = _required(body, name, name.capitalize(), struct)
    whole = isinstance(found, list)
    wrong = [type(item) for item in (found if whole else [found]) if not (whole and isinstance(item, str))]
    if wrong:
        kind = "string" if whole else "[]string"
        raise BindingError(_mismatch(wrong[0], f"{struct}.{name}", kind))
    return list(found)


def string(body: Mapping[str, Any], name: str, field: str, struct: str) -> str:
    """A required string, which must not be empty."""
    found = _required(body, name, field, struct)
    if not isinstance(found, str):
        raise BindingError(_mismatch(type(found), f"{struct}.{name}", "string"))
    return found


def filters(body: Mapping[str, Any], struct: str) -> list[dict[str, Any]]:
    """The filters of a query, each an object."""
    found = _required(body, "filters", "Filters", struct)
    kind = type(found) if not isinstance(found, list) else None
    wrong = [kind] if kind else [type(item) for item in found if not isinstance(item, dict)]
    if wrong:
        raise BindingError(_mismatch(wrong[0], f"{struct}.filters", "[]map[string]interface {}"))
    return list(found)


def parse_time(value: object, layout: str = _RFC3339) -> datetime:
    """A time with a time zone, converted to UTC; ``layout`` is the expected format in errors."""
    text = str(value)[:100]
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value):
        try:
            return _AWARE.validate_python(value).astimezone(timezone.utc)
        except ValidationError as error:
            raise RefusedError(f'parsing time "{text}" as "{layout}": {error.errors()[0]["msg"]}') from error
        except OverflowError as error:
            raise RefusedError(f'parsing time "{text}" as "{layout}": year out of range') from error
    day = re.match(r"\d{4}-\d\d-\d\d", text)
    rest = f'"{text[10:]}" as "T"' if day else f'"{text}" as "2006"'
    raise RefusedError(f'parsing time "{text}" as "{layout}": cannot parse {rest}')


def select(**parts: Any) -> Selection:
    """A selection from these fields; refused if they are not valid."""
    try:
        return Selection.model_validate(parts)
    except ValidationError as error:
        said = [e["msg"].removeprefix("Value error, ") for e in error.errors()]
        raise RefusedError("; ".join(said)[:2000]) from error


def _required(body: Mapping[str, Any], name: str, field: str, struct: str) -> Any:
    if (found := body.get(name)) is None or found == "":
        raise BindingError(
            f"Key: '{struct}.{field}' Error:Field validation for '{field}' failed on the 'required' tag"
        )
    return found


def _mismatch(kind: type, place: str, wanted: str) -> str:
    return f"json: cannot unmarshal {_KINDS.get(kind, 'null')} into Go struct field {place} of type {wanted}"
