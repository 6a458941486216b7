"""Rows of jobs and records of the audit trail as stored JSON, which has a version of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from transforms.errors import PermanentError
from transforms.job_row import Row
from transforms.stored import dump, load

# A row's own "version" counts its changes.
_KEY = "format"
_SHORT = 8 << 10
"""Characters of rows that are listed whole."""
_LONG = frozenset({"ids", "where"})


def dump_text(stored: Mapping[str, Any]) -> str:
    """The stored text of a row or of a record."""
    return dump(stored, key=_KEY)


def brief_text(row: Mapping[str, Any]) -> str | None:
    """What listings show of a row that is long, None of others; see ``abridged`` of :class:`Row`.

    Raises:
        PermanentError: the row comes from a listing itself, so the rest of it would be lost.
    """
    if row.get("abridged"):
        raise PermanentError(f"job {row['id']} was read from a listing, which leaves things out")
    selection = {name: value for name, value in row.get("selection", {}).items() if name not in _LONG}
    errors = row.get("errors", [])
    if len(dump_text(row)) <= _SHORT:
        return None
    return dump_text(
        {**row, "selection": selection, "errors": [], "errors_listed": len(errors), "abridged": True}
    )


def load_row(text: str) -> Row:
    """The row of a stored text; raises as :func:`load_record`."""
    return cast("Row", load_record(text))


def load_record(text: str) -> dict[str, Any]:
    """The record of a stored text; fields that this release does not know stay in it.

    Raises:
        PermanentError: it is damaged, or a newer release wrote it.
    """
    return load(text, "A job or an audit record of the index", key=_KEY)
