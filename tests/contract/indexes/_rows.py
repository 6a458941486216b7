"""What the contract of index stores compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from tests._entries import table
from transforms.indexes import Index
from transforms.selection import Selection

EVERYTHING = Selection(all=True)


def rows(tables: Iterator[pa.Table]) -> list[dict[str, Any]]:
    return [row for part in tables for row in part.to_pylist()]


def ids(tables: Iterator[pa.Table]) -> list[str]:
    return [row["id"] for row in rows(tables)]


def pages(index: Index, selection: Selection, size: int) -> Iterator[pa.Table]:
    after = None
    while len(page := index.search(selection, size, after)):
        yield page
        last = page.slice(len(page) - 1)
        after = last["publish_time"].cast(pa.int64())[0].as_py(), last["id"][0].as_py()


def in_order(entries: pa.Table, *columns: str) -> pa.Table:
    def place(row: dict[str, Any]) -> list[Any]:
        return [(row[name] is not None, row[name]) if row[name] is not None else (False,) for name in columns]

    return table(*sorted(entries.to_pylist(), key=place))
