"""A selection as an SQL condition over the table ``entries`` of SQLite.

Text has SQLite's BINARY collation and the database is UTF-8, so text compares as UTF-8 bytes.
Attributes are stored in one blob ``FF name FE value FF name FE value FF``: neither byte can occur in
UTF-8, so a search for bytes is exact for all names and values. SQLite's JSON functions are not, because
they end a string at NUL; a table of attributes would triple the rows to insert.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transforms.selection import Condition, Selection

__all__ = ["PAIR_MARK", "VALUE_MARK", "Parameters", "condition_of"]

PAIR_MARK = b"\xff"
VALUE_MARK = b"\xfe"

_COMPARISONS = {"eq": "=", "ne": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class Parameters(dict[str, Any]):
    """Values bound to a statement, each with its own name."""

    def bind(self, value: object) -> str:
        """Keep a value and return its placeholder."""
        name = f"p{len(self)}"
        self[name] = value
        return f":{name}"

    def bind_all(self, values: Sequence[object]) -> str:
        """A parenthesised list of placeholders."""
        return f"({','.join([self.bind(value) for value in values])})"


def condition_of(selection: Selection, parameters: Parameters) -> str:
    """The SQL condition for a selection, without ``sources``, ``limit`` and ``sample``."""
    parts = ["1"]
    if selection.ids:
        parts.append(f"id IN {parameters.bind_all(selection.ids)}")
    if selection.from_us is not None:
        parts.append(f"publish_time >= {parameters.bind(selection.from_us)}")
    if selection.to_us is not None:
        parts.append(f"publish_time < {parameters.bind(selection.to_us)}")
    if selection.where:
        parts.append(f"({' OR '.join(_clause(clause, parameters) for clause in selection.where)})")
    return " AND ".join(parts)


def _clause(clause: tuple[Condition, ...], parameters: Parameters) -> str:
    return f"({' AND '.join(_condition(c, parameters) for c in clause)})"


def _condition(condition: Condition, parameters: Parameters) -> str:
    if condition.attribute is not None:
        return _attribute(condition, condition.attribute.encode(), parameters)
    if condition.field == "topic":
        named = _compare("name", condition, parameters)
        return f"topic IN (SELECT number FROM names WHERE {named})"  # noqa: S608 - values are bound
    return _compare(condition.field, condition, parameters)


def _compare(column: str, condition: Condition, parameters: Parameters) -> str:
    if condition.operator == "exists":
        return f"{column} IS {'NOT ' if condition.value else ''}NULL"
    if condition.operator == "prefix":
        return _starts_with(column, condition.value, parameters)
    return _compare_values(column, condition.operator, condition.values, parameters)


def _compare_values(column: str, operator: str, values: Sequence[object], parameters: Parameters) -> str:
    if operator in ("in", "nin"):
        return f"{column} {'NOT ' if operator == 'nin' else ''}IN {parameters.bind_all(values)}"
    return f"{column} {_COMPARISONS[operator]} {parameters.bind(values[0])}"


def _starts_with(column: str, prefix: str | bytes, parameters: Parameters) -> str:
    if not prefix:  # substr gives null for an empty blob
        return f"{column} IS NOT NULL"
    value = prefix.encode() if isinstance(prefix, str) else prefix
    exact = f"substr(CAST({column} AS BLOB), 1, {len(value)}) = {parameters.bind(value)}"
    return f"({column} >= {parameters.bind(prefix)} AND {exact})"


def _attribute(condition: Condition, name: bytes, parameters: Parameters) -> str:
    mark = PAIR_MARK + name + VALUE_MARK
    marked = parameters.bind(mark)
    if condition.operator == "exists":
        return f"instr(attributes, {marked}) {'>' if condition.value else '='} 0"
    values = [value.encode() for value in condition.values]
    if condition.operator == "eq":
        return f"instr(attributes, {parameters.bind(mark + values[0] + PAIR_MARK)}) > 0"
    if condition.operator == "prefix":
        return f"instr(attributes, {parameters.bind(mark + values[0])}) > 0"
    rest = f"substr(attributes, instr(attributes, {marked}) + {len(mark)})"
    value = f"substr({rest}, 1, instr({rest}, x'ff') - 1)"
    compared = _compare_values(value, condition.operator, values, parameters)
    return f"(instr(attributes, {marked}) > 0 AND {compared})"
