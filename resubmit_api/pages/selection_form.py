"""The filter form of the pages: converts between form fields and the JSON of a selection."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from werkzeug.datastructures import MultiDict

from transforms.errors import ConfigurationError
from transforms.selection import Selection

__all__ = [
    "FIELDS",
    "OPERATORS",
    "RANGES",
    "Condition",
    "Form",
    "fill_in",
    "selection_json",
    "write_selection",
]

FIELDS = ("key", "id", "topic", "partition", "offset", "publish_time", "size")
OPERATORS = {
    "eq": "is",
    "ne": "is not",
    "prefix": "begins with",
    "in": "is one of",
    "nin": "is none of",
    "gt": ">",
    "gte": "≥",
    "lt": "<",
    "lte": "≤",
    "exists": "is there",
}
RANGES = {"-15m": "15 min", "-1h": "hour", "-1d": "day", "-7d": "7 days"}
"""Relative start times and their labels."""
_NUMBERS = frozenset({"partition", "offset", "size"})
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_ZONED = re.compile(r"(Z|[+-]\d\d:?\d\d)$", re.IGNORECASE)


@dataclass(frozen=True)
class Condition:
    """A line of the form; ``join`` combines it with the line before, by ``and`` or ``or``."""

    join: str = "and"
    field: str = ""
    operator: str = "eq"
    value: str = ""


@dataclass(frozen=True)
class Form:
    """The form's fields; ``complete`` is False if it cannot show all of the selection."""

    sources: tuple[str, ...] = ()
    published_from: str = ""
    published_to: str = ""
    ids: str = ""
    conditions: tuple[Condition, ...] = ()
    complete: bool = True


@dataclass
class _Clauses:
    done: list[dict[str, dict[str, Any]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, condition: Condition) -> None:
        if condition.join == "or" or not self.done:
            self.done.append({})
        comparisons = self.done[-1].setdefault(condition.field, {})
        if condition.operator in comparisons:
            name = f"{condition.field} {OPERATORS[condition.operator]}"
            self.problems.append(f"“{name}” appears twice; use “or”, or “is one of” with commas.")
        comparisons[condition.operator] = _value(condition, self.problems)


def write_selection(given: MultiDict[str, str]) -> dict[str, Any]:
    """The JSON of the selection in the form, with simple comparisons in short form.

    Raises:
        ConfigurationError: a line is not valid. The selection itself checks the rest.
    """
    clauses = _Clauses()
    for condition in _conditions(given):
        clauses.add(condition)
    if clauses.problems:
        raise ConfigurationError(clauses.problems)
    start, end = _times(given)
    selection = {
        "sources": given.getlist("source"),
        "published_from": start,
        "published_to": end,
        "ids": [line.strip() for line in given.get("ids", "").splitlines() if line.strip()],
        "where": [_shortened(clause) for clause in clauses.done],
    }
    narrowed = {name: value for name, value in selection.items() if value}
    return narrowed or {"all": True}


def fill_in(selection: Mapping[str, Any]) -> Form:
    """The form for this selection, or for as much of it as the form can show."""
    conditions = [_line(*line) for line in _lines(selection.get("where", ()))]
    known = [condition for condition in conditions if condition is not None]
    ids = selection.get("ids", ())
    plain = all(id == id.strip() and len(id.splitlines()) == 1 for id in ids)
    return Form(
        sources=tuple(selection.get("sources", ())),
        published_from=selection.get("published_from") or "",
        published_to=selection.get("published_to") or "",
        ids="\n".join(ids) if plain else "",
        conditions=tuple(known),
        complete=plain
        and len(known) == len(conditions)
        and not {"limit", "sample"} & {name for name, value in selection.items() if value is not None},
    )


def _conditions(given: MultiDict[str, str]) -> list[Condition]:
    columns = (given.getlist(name) for name in ("join", "field", "operator", "value"))
    rows = [Condition(*(cell.strip() for cell in row)) for row in zip(*columns, strict=False)]
    return [row for row in rows if row.field and row.operator in OPERATORS]


def _value(condition: Condition, problems: list[str]) -> Any:
    name, operator, text = condition.field, condition.operator, condition.value
    if operator == "exists":
        return text.lower() not in {"no", "false", "0"}
    values = [part.strip() for part in text.split(",")] if operator in {"in", "nin"} else [text]
    if name == "publish_time":
        return _one_or_all(operator, [_time(value) for value in values])
    if name in _NUMBERS:
        wrong = [value for value in values if not re.fullmatch(r"-?\d{1,19}", value)]
        if wrong:
            problems.append(f"{name} takes whole numbers, not “{wrong[0][:40]}”.")
        return _one_or_all(operator, [0 if wrong else int(value) for value in values])
    return _one_or_all(operator, values)


def _one_or_all(operator: str, values: Sequence[Any]) -> Any:
    return list(values) if operator in {"in", "nin"} else values[0]


def _times(given: MultiDict[str, str]) -> tuple[str, str]:
    wanted = given.get("range", "")
    if wanted == "any":
        return "", ""
    if wanted in RANGES:
        return wanted, ""
    return _time(given.get("from", "")), _time(given.get("to", ""))


def _time(text: str) -> str:
    """A time as ISO 8601; the default zone is UTC, the default time of day is midnight."""
    text = text.strip()
    if not text:
        return ""
    if _DATE.fullmatch(text):
        return f"{text}T00:00:00Z"
    text = text.removesuffix(" UTC").replace(" ", "T", 1)
    return text if _ZONED.search(text) or not _DATE.match(text) else f"{text}Z"


def _shortened(clause: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: value["eq"] if set(value) == {"eq"} else value for name, value in clause.items()}


def _lines(where: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, Any]]:
    lines = []
    for clause in where:
        join = "or"
        for name, comparisons in clause.items():
            written_out = isinstance(comparisons, Mapping) and set(comparisons) != {"base64"}
            for operator, value in (comparisons if written_out else {"eq": comparisons}).items():
                lines.append((join, name, operator, value))
                join = "and"
    return lines


def _line(join: str, name: str, operator: str, value: Any) -> Condition | None:
    values = value if isinstance(value, list) else [value]
    if any(isinstance(one, Mapping) for one in values):
        return None  # a key that is not text
    texts = [json.dumps(one) if isinstance(one, bool) else str(one) for one in values]
    text = ", ".join(texts)
    split = [part.strip() for part in text.split(",")] if isinstance(value, list) else [text.strip()]
    plain = split == texts and name == name.strip() and len(text.splitlines() or [""]) == 1
    return Condition(join, name, operator, text) if plain else None


def selection_json(selection: Selection) -> dict[str, Any]:
    """A selection as readable JSON, with comparisons in short form."""
    value: dict[str, Any] = json.loads(selection.to_json())
    if "where" in value:
        value["where"] = [_shortened(clause) for clause in value["where"]]
    return value
