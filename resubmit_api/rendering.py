"""Renders searches, entries and messages as JSON, for the API and the pages."""

from __future__ import annotations

import base64
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from flask import url_for

from resubmit_api.auth.grants import CallersIndex
from resubmit_api.cursors import read_search_cursor, search_cursor
from resubmit_api.errors import needs
from resubmit_api.messages import Found
from transforms.model import Trait
from transforms.selection import Selection
from transforms.times import iso, within_calendar

__all__ = ["bytes_to_json", "entries_to_json", "message_to_json", "search_page"]


def search_page(index: CallersIndex, selection: Selection, limit: int, cursor: str | None) -> dict[str, Any]:
    """One page (:class:`resubmit_api.schemas.EntryPage`); 400 for a cursor of another search."""
    question = selection.to_json()
    after = None if cursor is None else read_search_cursor(question, cursor)
    with needs("The index"):
        found = index.search(selection, limit, after)
    more = len(found) == limit
    return {
        "messages": entries_to_json(found),
        "next": search_cursor(question, _last(found)) if more else None,
    }


def message_to_json(found: Found) -> dict[str, Any]:
    """A message as JSON (:class:`resubmit_api.schemas.Message`)."""
    [entry] = entries_to_json(found.entry)
    size = pc.binary_length(found.message["data"])[0].as_py()
    return entry | {
        "key": bytes_to_json(found.message["key"][0].as_py()),
        "headers": [_header(header) for header in _headers(found.message)],
        "payload_size": size,
        "payload": url_for("messages.payload", id=entry["id"]),
        "verified_by": found.verified_by,
    }


def _last(found: pa.Table) -> tuple[int | None, str]:
    row = found.slice(len(found) - 1)
    return row["publish_time"].cast(pa.int64())[0].as_py(), row["id"][0].as_py()


def _headers(message: pa.Table) -> list[dict[str, Any]]:
    # Names in files of other products may be invalid UTF-8, which Python strings cannot hold.
    raw = pa.list_(pa.struct([("name", pa.binary()), ("value", pa.binary())]))
    headers: list[dict[str, Any]] = message["headers"].cast(raw)[0].as_py()
    return headers


def _header(header: dict[str, bytes | None]) -> dict[str, Any]:
    name, value = header["name"] or b"", header["value"]
    return {"name": name.decode(errors="replace"), "value": bytes_to_json(value)}


def entries_to_json(entries: pa.Table) -> list[dict[str, Any]]:
    """Rows of ``ENTRY_SCHEMA`` as JSON (:class:`resubmit_api.schemas.Entry`)."""
    return [_entry(row) for row in within_calendar(entries).to_pylist()]


def bytes_to_json(value: bytes | None) -> str | dict[str, str] | None:
    """Text if the bytes are UTF-8, else marked base64; null stays null."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


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
