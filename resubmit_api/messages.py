"""Reads one message from the lake and verifies it before it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from resubmit_api.auth.grants import CallersIndex
from resubmit_api.errors import needs, problem
from transforms import registry
from transforms.entries import verify
from transforms.errors import PermanentError
from transforms.lake import Lake, ObjectMissingError, find_lake

__all__ = ["Found", "find_entry", "read_message"]


@dataclass(frozen=True)
class Found:
    """A message with its index entry, one row each. ``verified_by`` is ``checksum`` or ``id``."""

    entry: pa.Table
    message: pa.Table
    verified_by: str


def find_entry(index: CallersIndex, id: str) -> pa.Table:
    """The index entry of a message; 404 if there is none."""
    with needs("The index"):
        entry = index.get(id)
    if not len(entry):
        raise problem(404, "message", "No message with this id is indexed.")
    return entry


def read_message(index: CallersIndex, lakes: Sequence[Lake], id: str) -> Found:
    """Read and verify a message.

    Responds 404 for an id that is not indexed, 410 if the file is missing from the lake, and 502 if the lake
    holds something else than was archived. 502 fits, because the fault is in the server behind the service.
    """
    entry = find_entry(index, id)
    location, position = entry["location"][0].as_py(), entry["position"][0].as_py()
    try:
        with needs("The lake"):
            message = _read_row(lakes, location, position)
    except ObjectMissingError as error:
        detail = "The message is indexed, but its file is missing from the lake."
        raise problem(410, "gone", detail) from error
    except PermanentError as error:
        raise problem(502, "damaged", f"The file of the message cannot be used: {error}.") from error
    checked = verify(message, entry["id"].combine_chunks(), entry["checksum"].combine_chunks())
    if not checked.ok[0]:
        detail = "The stored message has another id or checksum than the archived one; it is not shown."
        raise problem(502, "mismatch", detail)
    return Found(entry, message, "checksum" if checked.by_checksum[0] else "id")


def _read_row(lakes: Sequence[Lake], location: str, position: int) -> pa.Table:
    lake, path = find_lake(lakes, location)
    table: pa.Table = registry.format_of(path).read_rows(lake.open(path), np.array([position], np.int64))
    return table
