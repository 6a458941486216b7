"""Translates Dataphos Persistor's APIs: its filters to selections, our entries to its documents."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from resubmit_api.auth.grants import CallersIndex
from resubmit_api.compatible.requests import UTC, RefusedError, parse_time, select
from transforms.as_json import bytes_to_json
from transforms.selection import Selection
from transforms.times import iso, within_calendar

__all__ = ["count", "documents", "page", "selection_from"]

_MOST_FILTERS = 100
_MOST_IDS = 10_000
_ALL = (1 << 63) - 1
_MOST_READ = 1_000_000
_AT_ONCE = 10_000
_FARTHEST = 1_000_000
_BUSINESS = ("business_source_key", "business_object_key")
_ATTRIBUTE = "additional_metadata."
_TIMES = frozenset({"publish_time", "ingestion_time", "indexer_ingestion_time"})
_FIELDS = {"unique_id": "id", "ordering_key": "key", "publish_time": "publish_time"} | {
    name: f"attributes.{name}" for name in _BUSINESS
}
"""Names that map to a field of a selection; headers are attributes."""
_COLUMNS: dict[str, Callable[[pa.Table], Any]] = {
    "location_key": lambda t: t["location"],
    "location_position": lambda t: pc.add(t["position"], 1),
    "ingestion_time": lambda t: t["ingestion_time"].cast(pa.int64()),
    "indexer_ingestion_time": lambda t: t["ingestion_time"].cast(pa.int64()),
    "broker_msg_id": lambda t: pc.binary_join_element_wise(
        t["partition"].cast(pa.string()), t["offset"].cast(pa.string()), "_"
    ),
}
"""Names without a field in a selection; compared in the entries that the rest of a filter finds."""
_NEEDED = ["id", "location", "position", "ingestion_time", "partition", "offset"]
_REFUSED = frozenset({"index_source_key", "confirmation_flag", "additional_metadata"})
_ARROW: dict[str, Callable[[Any, Any], Any]] = {
    "eq": pc.equal,
    "ne": pc.not_equal,
    "gt": pc.greater,
    "gte": pc.greater_equal,
    "lt": pc.less,
    "lte": pc.less_equal,
}
_OPERATORS = (*_ARROW, "in", "nin", "exists")


def selection_from(filters: Sequence[Mapping[str, Any]], index: CallersIndex) -> Selection | None:
    """The messages that match one of the filters; None if none can match.

    Raises:
        RefusedError: a filter has an unknown field or operator, or a wrong value.
    """
    if not filters:
        raise RefusedError("(BadValue) $and/$or/$nor must be a nonempty array")
    if len(filters) > _MOST_FILTERS:
        raise RefusedError(f"a query takes at most {_MOST_FILTERS} filters; split it")
    _check_names(filters)
    parts = [part for part in (_part(each, index) for each in filters) if part.sources != ()]
    if not parts:
        return None
    if len({part.sources for part in parts}) == 1 and not any(part.rest for part in parts):
        return _whole(parts)
    ids = {id for part in parts for id in _ids(part, index)}
    if len(ids) > _MOST_IDS:
        raise RefusedError(f"more than {_MOST_IDS} messages match; narrow the filters")
    return select(ids=sorted(ids)) if ids else None


def documents(entries: pa.Table, *, whole: bool = False) -> Iterator[dict[str, Any]]:
    """Entries as documents; ``whole`` adds ingestion times and the joined business key."""
    for row in within_calendar(entries).to_pylist():
        attributes = dict(row["attributes"])
        keys = {name: attributes.pop(name, None) for name in _BUSINESS}
        key = bytes_to_json(row["key"])
        document = {
            "broker_id": row["source"],
            "broker_msg_id": _broker_message_id(row),
            **keys,
            "unique_id": row["id"],
            "index_source_key": "_".join(keys.values()) if whole and all(keys.values()) else None,
            "ordering_key": key if isinstance(key, str) else None,
            "location_key": row["location"],
            "location_position": row["position"] + 1,
            "publish_time": _time(row["publish_time"]),
            "ingestion_time": _time(row["ingestion_time"]) if whole else None,
            "indexer_ingestion_time": _time(row["ingestion_time"]) if whole else None,
            "additional_metadata": attributes,
        }
        yield {name: value for name, value in document.items() if value}


def count(index: CallersIndex, selection: Selection, most: int = _ALL) -> int:
    """The number of messages that match, up to ``most``."""
    return index.count(selection, most)


def page(index: CallersIndex, selection: Selection, limit: int, offset: int) -> pa.Table:
    """A page of entries by offset and limit, ordered by publish time and id, which is stable.

    Raises:
        RefusedError: the offset exceeds the maximum.
    """
    if offset > _FARTHEST:
        raise RefusedError(f"an offset is at most {_FARTHEST}; narrow the filters")
    after = None
    while offset:
        skipped = index.search(selection, min(offset, _AT_ONCE), after)
        if not len(skipped):
            return skipped
        last = skipped.slice(len(skipped) - 1)
        after = last["publish_time"].cast(pa.int64())[0].as_py(), last["id"][0].as_py()
        offset -= len(skipped)
    return index.search(selection, min(limit, _AT_ONCE), after)


@dataclass
class _Part:
    """One filter: the sources (None is any), a clause of a selection, and the remaining conditions."""

    sources: tuple[str, ...] | None = None
    clause: dict[str, dict[str, Any]] = field(default_factory=dict)
    rest: list[tuple[str, str, Any]] = field(default_factory=list)


def _check_names(filters: Sequence[Mapping[str, Any]]) -> None:
    known = {*_FIELDS, *_COLUMNS, *_REFUSED, "broker_id"}
    names = [name for each in filters for name in each]
    wrong = [name for name in names if name not in known and not name.startswith(_ATTRIBUTE)]
    if wrong:
        raise RefusedError(f"invalid query filter keys in query request body - [{' '.join(wrong)[:500]}]")
    if refused := [name for name in names if name in _REFUSED]:
        raise RefusedError(f"filters on {', '.join(refused[:5])} are not supported")


def _part(each: Mapping[str, Any], index: CallersIndex) -> _Part:
    part = _Part()
    for name, value in each.items():
        for said, wanted in _comparisons(name, value):
            if name == "broker_id":
                found = _sources(said, wanted, index)
                part.sources = found if part.sources is None else tuple(s for s in found if s in part.sources)
            elif name in _COLUMNS:
                _compare_column(part, name, said, wanted)
            else:
                attribute = f"attributes.{name.removeprefix(_ATTRIBUTE)}"
                part.clause.setdefault(_FIELDS.get(name, attribute), {})[said] = wanted
    return part


def _compare_column(part: _Part, name: str, said: str, wanted: Any) -> None:
    match = re.fullmatch(r"([0-9]{1,9})_([0-9]{1,18})", wanted) if isinstance(wanted, str) else None
    if name == "broker_msg_id" and said == "eq" and match:
        part.clause |= {"partition": {"eq": int(match[1])}, "offset": {"eq": int(match[2])}}
    else:
        part.rest.append((name, said, wanted))


def _comparisons(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    whole = value if isinstance(value, dict) else {"$eq": value}
    for said, wanted in whole.items():
        if said[:1] != "$" or said[1:] not in _OPERATORS:
            raise RefusedError(f"(BadValue) unknown operator: {said[:50]}")
        yield said[1:], _checked_time(name, said, wanted, value) if name in _TIMES else wanted


def _checked_time(name: str, said: str, wanted: Any, value: Any) -> Any:
    of = f" for operator {said}" if isinstance(value, dict) else ""
    if not isinstance(wanted, str):
        raise RefusedError(
            f"invalid timestamp values in query request body - map[{name}:invalid time format]"
        )
    try:
        return parse_time(wanted, UTC).isoformat()
    except RefusedError as error:
        text = f"map[{name}:failed to parse time{of}: {error}]"
        raise RefusedError(f"invalid timestamp values in query request body - {text}") from error


def _sources(said: str, wanted: Any, index: CallersIndex) -> tuple[str, ...]:
    if said == "eq" and isinstance(wanted, str):
        return (wanted,)
    if said == "in" and isinstance(wanted, list) and all(isinstance(name, str) for name in wanted):
        return tuple(wanted)
    known = pa.chunked_array([index.sources()], pa.string())
    return tuple(known.filter(_mask(known, "broker_id", said, wanted)).to_pylist())


def _whole(parts: Sequence[_Part]) -> Selection:
    sources, clauses = parts[0].sources, [part.clause for part in parts]
    given: dict[str, Any] = {"sources": sources} if sources is not None else {}
    if all(clauses):
        given["where"] = clauses
    return select(**given) if given else select(all=True)


def _ids(part: _Part, index: CallersIndex) -> Iterator[str]:
    found = read = 0
    for table in index.select(_whole([part]), _NEEDED):
        read += len(table)
        if read > _MOST_READ:
            raise RefusedError(f"more than {_MOST_READ} messages would be compared; narrow the filters")
        masks = [_mask(_COLUMNS[name](table), name, said, wanted) for name, said, wanted in part.rest]
        ids = table["id"].filter(reduce(pc.and_, masks)) if masks else table["id"]
        found += len(ids)
        if found > _MOST_IDS:
            raise RefusedError(f"more than {_MOST_IDS} messages match; narrow the filters")
        yield from ids.to_pylist()


def _mask(column: Any, name: str, said: str, wanted: Any) -> Any:
    if said == "exists":
        return pc.is_valid(column) if wanted else pc.is_null(column)
    value = _microseconds(wanted) if name in _TIMES else wanted
    try:
        if said not in {"in", "nin"}:
            return pc.fill_null(_ARROW[said](column, pa.scalar(value, column.type)), False)
        among = pc.is_in(column, value_set=pa.array(value, column.type))
        return among if said == "in" else pc.invert(among)
    except (pa.ArrowException, TypeError, OverflowError, UnicodeEncodeError) as error:
        raise RefusedError(f"(BadValue) {name}: ${said} does not take such a value") from error


def _microseconds(text: str) -> int:
    return int(pa.scalar(datetime.fromisoformat(text), pa.timestamp("us", "UTC")).value)


def _broker_message_id(row: Mapping[str, Any]) -> str:
    if row["offset"] is None:
        return str(row["id"]).removeprefix(f"{row['source']}_")
    return f"{row['partition']}_{row['offset']}"


def _time(time: datetime | None) -> str | None:
    """A time as Go writes it: without trailing zeros in the fraction."""
    text = iso(time)
    return None if text is None else text[:-1].rstrip("0").rstrip(".") + "Z"
