"""Renders searches, entries and messages as JSON, for the API and the pages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from flask import url_for

from resubmit_api.auth.grants import CallersIndex
from resubmit_api.cursors import read_search_cursor, search_cursor
from resubmit_api.errors import needs
from resubmit_api.messages import Found
from transforms.as_json import bytes_to_json, entries_to_json, headers_to_json
from transforms.selection import Selection

__all__ = ["message_to_json", "search_page"]


def search_page(
    index: CallersIndex, selection: Selection, limit: int, cursor: str | None, asked: datetime
) -> dict[str, Any]:
    """One page (:class:`resubmit_api.schemas.EntryPage`); 400 for a cursor of another search.

    Args:
        index: what the caller may read.
        selection: with absolute times.
        limit: at most this many entries.
        cursor: of the page before.
        asked: what relative times were resolved with.
    """
    question = selection.to_json()
    after = None if cursor is None else read_search_cursor(question, cursor)
    with needs("The index"):
        found = index.search(selection, limit, after)
    more = len(found) == limit
    return {
        "messages": entries_to_json(found),
        "next": search_cursor(question, _last(found), asked) if more else None,
    }


def message_to_json(found: Found) -> dict[str, Any]:
    """A message as JSON (:class:`resubmit_api.schemas.Message`)."""
    [entry] = entries_to_json(found.entry)
    size = pc.binary_length(found.message["data"])[0].as_py()
    return entry | {
        "key": bytes_to_json(found.message["key"][0].as_py()),
        "headers": headers_to_json(found.message),
        "payload_size": size,
        "payload": url_for("messages.payload", id=entry["id"]),
        "verified_by": found.verified_by,
    }


def _last(found: pa.Table) -> tuple[int | None, str]:
    row = found.slice(len(found) - 1)
    return row["publish_time"].cast(pa.int64())[0].as_py(), row["id"][0].as_py()
