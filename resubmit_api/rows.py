"""Rows of Arrow tables as JSON."""

from __future__ import annotations

import base64
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa

from transforms.model import Trait
from transforms.moments import within_calendar

__all__ = ["bytes_to_json", "entries_to_json", "iso"]


def entries_to_json(entries: pa.Table) -> list[dict[str, Any]]:
    """Rows of ``ENTRY_SCHEMA`` as :class:`resubmit_api.schemas.Entry` has them."""
    return [_entry(row) for row in within_calendar(entries).to_pylist()]


def bytes_to_json(value: bytes | None) -> str | dict[str, str] | None:
    """Text where the bytes are UTF-8, else marked base64; null stays null."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def iso(time: datetime | None) -> str | None:
    """ISO 8601 in UTC, always with microseconds and ``Z``."""
    if time is None:
        return None
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    del row["incarnation"]
    checksum = row["checksum"]
    return row | {
        "publish_time": iso(row["publish_time"]),
        "ingestion_time": iso(row["ingestion_time"]),
        "key": bytes_to_json(row["key"]),
        "attributes": dict(row["attributes"]),
        "traits": [trait.name.lower() for trait in Trait if trait & row["traits"] and trait.name],
        # JavaScript's numbers end at 2**53.
        "checksum": None if checksum is None else f"{checksum % (1 << 64):016x}",
    }
