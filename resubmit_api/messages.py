"""Reads one message from the lake and verifies it before it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from resubmit_api.auth.grants import CallersIndex
from resubmit_api.errors import needs, problem
from transforms.errors import PermanentError
from transforms.lake import Lake, ObjectMissingError
from transforms.one_message import MismatchError, read_one

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
    try:
        with needs("The lake"):
            message, verified_by = read_one(lakes, entry)
    except ObjectMissingError as error:
        detail = "The message is indexed, but its file is missing from the lake."
        raise problem(410, "gone", detail) from error
    except MismatchError as error:
        raise problem(502, "mismatch", f"{str(error).capitalize()}; it is not shown.") from error
    except PermanentError as error:
        raise problem(502, "damaged", f"The file of the message cannot be used: {error}.") from error
    return Found(entry, message, verified_by)
