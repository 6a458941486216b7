"""The selection model: which messages to find, with one meaning in every index store and in Arrow."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from functools import reduce
from typing import Annotated, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, to_jsonable_python

from transforms.errors import ConfigurationError
from transforms.selection.conditions import (
    MAX_STRING,
    Condition,
    clause_to_json,
    parse_clause,
    parse_time,
)
from transforms.times import microseconds

__all__ = [
    "MAX_SOURCES",
    "Clause",
    "Condition",
    "Selection",
    "absolute",
    "parse_selection",
    "read_json",
    "read_selection",
    "sample_and_limit",
]

_MAX_JSON = 16 << 20
_DEEPEST = 20
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RELATIVE = re.compile(r"now|-([0-9]{1,5})([smhd])")
MAX_SOURCES = 10_000
"""Maximum sources in a selection; a restricted one names every source the caller may read."""
_MAX_IDS = 10_000
_MAX_VALUES = 10_000

Clause = Annotated[
    tuple[Condition, ...],
    BeforeValidator(parse_clause),
    PlainSerializer(clause_to_json),
    WithJsonSchema({"type": "object", "examples": [{"attributes.version": "2", "offset": {"gte": 5}}]}),
]
"""Conditions that must all match, in JSON ``{"attributes.version": "2", "offset": {"gte": 5}}``."""

_T = TypeVar("_T")


def _not_empty(values: tuple[_T, ...]) -> tuple[_T, ...]:
    if not values:
        raise ValueError("an empty list would match nothing; remove it or name at least one")
    return values


_Given = Annotated[_T, AfterValidator(_not_empty)]
_Name = Annotated[str, Field(max_length=MAX_STRING)]


def _parse_bound(value: object) -> datetime:
    try:
        return parse_time(value)
    except ValueError as error:
        raise ValueError(f"{error}; or as -90s, -15m, -1h, -7d or now") from error


_Bound = Annotated[
    datetime, BeforeValidator(_parse_bound), WithJsonSchema({"type": "string", "format": "date-time"})
]


class Selection(BaseModel):
    """A subset of the indexed messages: a message must match every given part.

    Attributes:
        sources: names of sources; omit for all sources.
        published_from: earliest publish time, inclusive (with time zone).
        published_to: latest publish time, exclusive (with time zone).
        ids: message ids.
        where: clauses of conditions; at least one clause must match. A missing field matches only
            ``exists: false``. Strings compare as UTF-8 bytes, numbers as integers.
        limit: maximum number of messages: the oldest, by publish time and id.
        sample: the share of messages to take, chosen by id. Also applied there.
        all: required if nothing else narrows the selection.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: _Given[tuple[_Name, ...]] = Field(default=(), max_length=MAX_SOURCES)
    published_from: _Bound | None = None
    published_to: _Bound | None = None
    ids: _Given[tuple[_Name, ...]] = Field(default=(), max_length=_MAX_IDS)
    where: _Given[tuple[Clause, ...]] = Field(default=(), max_length=100)
    limit: int | None = Field(default=None, ge=1, lt=1 << 63, strict=True)
    sample: float | None = Field(default=None, gt=0, le=1, strict=True)
    all: StrictBool = False

    @model_validator(mode="after")
    def _check_whole(self) -> Selection:
        narrowed = bool(self.sources or self.ids or self.where or self.published_from or self.published_to)
        if not narrowed and not self.all:
            raise ValueError(
                "the selection is empty; give sources, ids, times or where, or all: true for everything"
            )
        if narrowed and self.all:
            raise ValueError("all: true means everything; remove it if something else is selected")
        if self.published_from and self.published_to and self.published_from >= self.published_to:
            raise ValueError("published_from must be before published_to, which is exclusive")
        if sum(len(c.values) for clause in self.where for c in clause) > _MAX_VALUES:
            raise ValueError(f"where has more than {_MAX_VALUES} values; split the selection")
        return self

    @property
    def from_us(self) -> int | None:
        """``published_from`` as µs since 1970."""
        return None if self.published_from is None else microseconds(self.published_from)

    @property
    def to_us(self) -> int | None:
        """``published_to`` as µs since 1970."""
        return None if self.published_to is None else microseconds(self.published_to)

    def to_json(self) -> str:
        """JSON text that :func:`parse_selection` turns into an equal selection."""
        return json.dumps(to_jsonable_python(self.model_dump(exclude_defaults=True)), ensure_ascii=False)

    def filter(self, entries: pa.Table) -> pa.ChunkedArray:
        """Which rows of an ``ENTRY_SCHEMA`` table match, without ``limit`` and ``sample``.

        Returns:
            One boolean per row, never null.
        """
        masks = [_all_true(len(entries))]
        if self.sources:
            masks.append(pc.is_in(entries["source"], value_set=pa.array(self.sources, pa.string())))
        if self.ids:
            masks.append(pc.is_in(entries["id"], value_set=pa.array(self.ids, pa.string())))
        masks += [_compare(_column(entries, c), c) for c in self._times()]
        if self.where:
            masks.append(reduce(pc.or_, (_clause_mask(entries, clause) for clause in self.where)))
        return pa.chunked_array(reduce(pc.and_, masks))

    def _times(self) -> list[Condition]:
        bounds = (("gte", self.from_us), ("lt", self.to_us))
        return [Condition("publish_time", name, (us,)) for name, us in bounds if us is not None]


def absolute(value: Any, now: datetime | None = None) -> Any:
    """A selection's JSON value with its relative times resolved.

    ``published_from`` and ``published_to`` may be ``now`` or a time before it, such as ``-90s``,
    ``-15m``, ``-1h`` or ``-7d``. Other values stay unchanged.

    Args:
        value: the parsed JSON.
        now: the time to use as now; default: the current time.
    """
    if not isinstance(value, dict):
        return value
    now = now or datetime.now(timezone.utc)
    times = {name: value[name] for name in ("published_from", "published_to") if name in value}
    return value | {name: _absolute(time, now) for name, time in times.items()}


def _absolute(time: Any, now: datetime) -> Any:
    match = _RELATIVE.fullmatch(time) if isinstance(time, str) else None
    if match is None:
        return time
    ago = timedelta(seconds=int(match[1]) * _SECONDS[match[2]]) if match[1] else timedelta()
    return (now - ago).isoformat()


def read_json(text: str | bytes) -> Any:
    """Parse a selection's JSON text, to a value of any type.

    Raises:
        ConfigurationError: it is not JSON, repeats a name in an object, contains a number that JSON does
            not allow (NaN, infinity), or is nested too deeply.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique_names)
        _check_plain(value, _DEEPEST)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"The selection is not valid JSON: {error}.") from error
    return value


def _check_plain(value: Any, levels: int) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a JSON number")
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if parts and not levels:
        raise ValueError("it is nested too deeply")
    for part in parts:
        _check_plain(part, levels - 1)


def parse_selection(text: str | bytes) -> Selection:
    """Parse a selection from JSON text; relative times are resolved, see :func:`absolute`.

    Raises:
        ConfigurationError: lists every problem with its place.
    """
    if len(text) > _MAX_JSON:
        raise ConfigurationError(f"The selection is larger than {_MAX_JSON >> 20} MiB; split it.")
    return read_selection(read_json(text))


def read_selection(value: Any) -> Selection:
    """A selection from its JSON value; relative times are resolved, see :func:`absolute`.

    Raises:
        ConfigurationError: lists every problem with its place.
    """
    try:
        return Selection.model_validate(absolute(value))
    except ValidationError as error:
        raise ConfigurationError([_problem(e) for e in error.errors()]) from error


def sample_and_limit(tables: Iterable[pa.Table], selection: Selection) -> Iterator[pa.Table]:
    """Apply ``sample`` and ``limit`` to a stream of tables with the column ``id``.

    A message is sampled if CRC-32 of its id (UTF-8) is below ``sample`` times 2^32, so the same messages
    are chosen each time. ``limit`` takes the first of the rest.
    """
    left = selection.limit
    for table in tables:
        taken = table if selection.sample is None else table.filter(_sampled(table["id"], selection.sample))
        if left is not None:
            taken = taken.slice(0, left)
            left -= len(taken)
        if len(taken):
            yield taken
        if left == 0:
            return


def _sampled(ids: pa.ChunkedArray, sample: float) -> pa.Array:
    hashes = np.fromiter(map(zlib.crc32, ids.cast(pa.binary()).to_pylist()), np.uint32, len(ids))
    return pa.array(hashes < sample * 2**32)


def _all_true(rows: int) -> pa.Array:
    return pa.array(np.ones(rows, dtype=bool))


def _clause_mask(entries: pa.Table, clause: tuple[Condition, ...]) -> pa.Array:
    return reduce(pc.and_, (_compare(_column(entries, c), c) for c in clause))


def _column(entries: pa.Table, condition: Condition) -> pa.Array:
    column = entries[condition.field].combine_chunks()
    if condition.attribute is not None:
        return pc.map_lookup(column, pa.scalar(condition.attribute, pa.string()), "last")
    return column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column


_ORDERED = {
    "eq": pc.equal,
    "ne": pc.not_equal,
    "gt": pc.greater,
    "gte": pc.greater_equal,
    "lt": pc.less,
    "lte": pc.less_equal,
}


def _compare(column: pa.Array, condition: Condition) -> pa.Array:
    if condition.operator == "exists":
        return pc.is_valid(column) if condition.value else pc.is_null(column)
    column, values = _widened(column, condition)
    if condition.operator == "prefix":
        mask = pc.starts_with(column, pattern=condition.value)
    elif condition.operator == "in":
        mask = pc.is_in(column, value_set=values)
    elif condition.operator == "nin":
        mask = pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, value_set=values)))
    else:
        mask = _ORDERED[condition.operator](column, values[0])
    return pc.fill_null(mask, False)


def _widened(column: pa.Array, condition: Condition) -> tuple[pa.Array, pa.Array]:
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64()), pa.array(condition.values, pa.int64())
    return column, pa.array(condition.values, column.type)


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("a name appears twice in one object")
    return names


def _problem(error: ErrorDetails) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    if error["type"] == "extra_forbidden":
        return f"selection: {place} is unknown; known are {', '.join(Selection.model_fields)}."
    text = error["msg"].removeprefix("Value error, ").rstrip(".")
    return f"selection: {place}: {text}." if place else f"selection: {text}."
