"""File formats of the lake, one module each, found by name.

A format's module is its name, which is also the extension of its files. It offers what
:class:`FormatModule` says.
"""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from transforms.formats._common import Bounds, Rows
from transforms.lake import LakeFile

__all__ = ["Bounds", "FormatModule", "Rows"]


class FormatModule(Protocol):
    """What a module of this package offers."""

    def encode(self, table: pa.Table) -> bytes | memoryview | pa.Buffer:
        """A file with the rows of ``table`` (``FILE_SCHEMA``).

        Equal rows yield equal bytes: no clock, no host name, no random numbers.
        """

    def decode(self, data: bytes | memoryview | pa.Buffer) -> pa.Table:
        """The exact inverse: null stays null, empty stays empty, every byte and every repeat is kept.

        Raises:
            PermanentError: ``data`` is not a whole file of this format.
        """

    def read_rows(self, file: LakeFile, rows: Rows) -> pa.Table:
        """Rows by position from 0 (strictly ascending), in that order, fetching no more than it must.

        Raises:
            PermanentError: a position lies behind the last row, or the file is damaged.
            ObjectMissingError: the file is gone from the lake.
            TransientError: the lake is away.
        """

    def bounds(self, file: LakeFile) -> Bounds:
        """How many messages the file holds, and between which bounds; raises as :meth:`read_rows`."""
