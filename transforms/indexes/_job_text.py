"""Rows of jobs and records of the audit trail as stored JSON, which has a version of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from transforms.job_row import Row
from transforms.stored import dump, load

# A row's own "version" counts its changes.
_KEY = "format"


def dump_text(stored: Mapping[str, Any]) -> str:
    """The stored text of a row or of a record."""
    return dump(stored, key=_KEY)


def load_row(text: str) -> Row:
    """The row of a stored text; raises as :func:`load_record`."""
    return cast("Row", load_record(text))


def load_record(text: str) -> dict[str, Any]:
    """The record of a stored text; fields that this release does not know stay in it.

    Raises:
        PermanentError: it is damaged, or a newer release wrote it.
    """
    return load(text, "A job or an audit record of the index", key=_KEY)
