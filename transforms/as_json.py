"""Entries and headers of messages as JSON, for API, pages and command."""

from __future__ import annotations

import base64
from typing import Any

import pyarrow as pa

from transforms.model import Trait
from transforms.times import iso, within_calendar

__all__ = ["bytes_to_json", "entries_to_json", "headers_to_json"]


def entries_to_json(entries: pa.Table) -> list[dict[str, Any]]:
    """Rows of ``ENTRY_SCHEMA`` as JSON (:class:`resubmit_api.schemas.Entry`)."""
    return [_entry(row) for row in within_calendar(entries).to_pylist()]


def headers_to_json(message: pa.Table) -> list[dict[str, Any]]:
    """The headers of one row of ``FILE_SCHEMA``: ``{"name": …, "value": …}`` in their order."""
    # Names in files of other products may be invalid UTF-8, which Python strings cannot hold.
    raw = pa.list_(pa.struct([("name", pa.binary()), ("value", pa.binary())]))
    return [_header(header) for header in message["headers"].cast(raw)[0].as_py()]


def bytes_to_json(value: bytes | None) -> str | dict[str, str] | None:
    """Text if the bytes are UTF-8, else marked base64; null stays null."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _header(header: dict[str, bytes | None]) -> dict[str, Any]:
    name, value = header["name"] or b"", header["value"]
    return {"name": name.decode(errors="replace"), "value": bytes_to_json(value)}


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    del row["incarnation"]
    checksum = row["checksum"]
    return row | {
        "publish_time": iso(row["publish_time"]),
        "ingestion_time": iso(row["ingestion_time"]),
        "key": bytes_to_json(row["key"]),
        "attributes": dict(row["attributes"]),
        "traits": [trait.name.lower() for trait in Trait if trait & row["traits"] and trait.name],
        # JavaScript's numbers are exact up to 2**53 only.
        "checksum": None if checksum is None else f"{checksum % (1 << 64):016x}",
    }
