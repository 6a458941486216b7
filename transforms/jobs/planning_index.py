"""The index as a planner reads it: what ends the job ends the reading too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pyarrow as pa

from transforms.indexes import Index
from transforms.selection import Selection

__all__ = ["interruptible"]


def interruptible(index: Index, check: Callable[[], object]) -> Index:
    """``index``, whose selections call ``check`` before each part that they read; its error ends them."""
    return cast("Index", _Interruptible(index, check))


class _Interruptible:
    def __init__(self, index: Index, check: Callable[[], object]) -> None:
        self._index, self._check = index, check

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def select(self, selection: Selection, columns: list[str]) -> Iterator[pa.Table]:
        """See :meth:`transforms.indexes.Index.select`."""
        self._check()
        for table in self._index.select(selection, columns):
            self._check()
            yield table
