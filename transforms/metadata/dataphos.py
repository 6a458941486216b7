"""Reads the metadata messages of Dataphos Persistor, so that its components can be replaced one by one."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from transforms.errors import PermanentError
from transforms.model import ENTRY_SCHEMA

__all__ = ["BUSINESS_KEYS", "POSITION", "from_dataphos_metadata"]

POSITION = "^([0-9]{1,9})_([0-9]{1,18})$"
"""Matches its broker message ids of the form ``<partition>_<offset>``, as for Kafka."""

BUSINESS_KEYS = ("business_source_key", "business_object_key")
"""The headers that it stores separately; here they are attributes like all others."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z| UTC)?")


def from_dataphos_metadata(value: bytes) -> pa.Table:
    """The index entry of a metadata message of Dataphos Persistor.

    Its times have no zone and are UTC. The entry has incarnation 1, size 0 and no traits, because these
    are unknown, and no checksum: such a message is verified by its id only.

    Args:
        value: the JSON document of one message.

    Returns:
        One row of ``ENTRY_SCHEMA``.

    Raises:
        PermanentError: it is not such a document; names the wrong field.
    """
    try:
        document = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise PermanentError("a metadata message is not valid JSON") from error
    if not isinstance(document, dict):
        raise PermanentError("a metadata message is not a JSON object")
    return pa.Table.from_pylist([_entry(document)], schema=ENTRY_SCHEMA)


def _entry(document: dict[str, Any]) -> dict[str, Any]:
    source = _field(document, "broker_id", str)
    position = re.fullmatch(POSITION, _field(document, "broker_msg_id", str))
    location = _field(document, "location", dict)
    times = _field(document, "timestamp", dict)
    key = _field(document, "ordering_key", str, "")
    return {
        "id": _field(document, "unique_id", str),
        "source": source,
        "incarnation": 1,
        "topic": source,
        "partition": int(position[1]) if position else None,
        "offset": int(position[2]) if position else None,
        "publish_time": _time(times, "publish_time"),
        "ingestion_time": _time(times, "ingestion_time"),
        "key": key.encode() if key else None,
        "attributes": _attributes(_field(document, "additional_metadata", dict, {}))
        + [(name, value) for name in BUSINESS_KEYS if (value := _field(document, name, str, ""))],
        "size": 0,
        "traits": 0,
        "checksum": None,
        "location": _field(location, "location_key", str),
        "position": _field(location, "location_position", int) - 1,
    }


def _field(document: dict[str, Any], name: str, kind: type, default: object = None) -> Any:
    value = document.get(name, default)
    if value is None and default is not None:
        value = default
    if not isinstance(value, kind) or isinstance(value, bool):
        raise PermanentError(f"a metadata message has no valid {name}")
    if isinstance(value, str) and not _is_unicode(value):
        raise PermanentError(f"a metadata message has no valid {name}: it is not Unicode")
    return value


def _attributes(pairs: dict[str, Any]) -> list[tuple[str, str]]:
    attributes = [(name, _field(pairs, name, str)) for name in pairs]
    if not all(_is_unicode(name) for name in pairs):
        raise PermanentError("a metadata message has no valid additional_metadata: it is not Unicode")
    return attributes


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _time(times: dict[str, Any], name: str) -> datetime:
    text = _TIME.fullmatch(_field(times, name, str))
    if text is None:
        raise PermanentError(f"a metadata message has no valid {name}")
    day, clock, fraction = text.groups(default="")
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}+00:00")
    except ValueError as error:
        raise PermanentError(f"a metadata message has no valid {name}") from error
    return whole + timedelta(microseconds=int(fraction[:6].ljust(6, "0")))
