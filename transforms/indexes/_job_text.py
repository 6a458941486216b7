"""Rows of jobs and records of the audit trail as stored JSON, which has a version of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transforms.stored import dump, load

# A row's own "version" counts its changes.
_KEY = "format"


def dump_row(row: Mapping[str, Any]) -> str:
    """The stored text of a row."""
    return dump(row, key=_KEY)


def load_row(text: str) -> dict[str, Any]:
    """The row of a stored text; fields that this release does not know stay in it.

    Raises:
        PermanentError: it is damaged, or a newer release wrote it.
    """
    return load(text, "A job or an audit record of the index", key=_KEY)
