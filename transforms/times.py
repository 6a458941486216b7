"""Converts microseconds to times of Python and JSON, also outside the calendar.

Producers choose the times of their messages freely; no value may make a reader fail.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["iso", "iso_time", "microseconds", "moment", "within_calendar"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999


def moment(microseconds: int) -> datetime:
    """Microseconds since 1970 as a time in UTC, limited to the years 1 to 9999."""
    return _EPOCH + timedelta(microseconds=min(max(microseconds, _FIRST_US), _LAST_US))


def microseconds(time: datetime) -> int:
    """A time with its zone as microseconds since 1970, exactly."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def within_calendar(table: pa.Table) -> pa.Table:
    """The table with its times limited like :func:`moment`, so that each has a ``datetime``."""
    for number, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            bounded = pc.min_element_wise(
                pc.max_element_wise(table[number].cast(pa.int64()), _FIRST_US, skip_nulls=False),
                _LAST_US,
                skip_nulls=False,
            )
            table = table.set_column(number, field, bounded.cast(field.type))
    return table


def iso_time(microseconds: int | None) -> str | None:
    """Microseconds since 1970 as ISO 8601 in UTC."""
    return None if microseconds is None else moment(microseconds).isoformat()


def iso(time: datetime | None) -> str | None:
    """ISO 8601 in UTC, always with microseconds and ``Z``."""
    if time is None:
        return None
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")
