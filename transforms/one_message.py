"""Reads one message from the lake and verifies it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from transforms import registry
from transforms.entries import verify
from transforms.errors import PermanentError
from transforms.lake import Lake, find_lake

__all__ = ["MismatchError", "read_one"]


class MismatchError(PermanentError):
    """The lake holds another message than was archived."""

    def __init__(self) -> None:
        super().__init__("the stored message has another id or checksum than the archived one")


def read_one(lakes: Sequence[Lake], entry: pa.Table) -> tuple[pa.Table, str]:
    """The message of an index entry.

    Args:
        lakes: those that locations may be in.
        entry: one row of ``ENTRY_SCHEMA``.

    Returns:
        One row of ``FILE_SCHEMA``, and what verified it: ``checksum`` or ``id``.

    Raises:
        ObjectMissingError: its file is missing from the lake.
        MismatchError: the row has another id or checksum.
        PermanentError: the file is outside the lakes, or damaged.
        TransientError: the lake is away.
    """
    lake, path = find_lake(lakes, entry["location"][0].as_py())
    position = np.array([entry["position"][0].as_py()], np.int64)
    message: pa.Table = registry.format_of(path).read_rows(lake.open(path), position)
    checked = verify(message, entry["id"].combine_chunks(), entry["checksum"].combine_chunks())
    if not checked.ok[0]:
        raise MismatchError
    return message, "checksum" if checked.by_checksum[0] else "id"
