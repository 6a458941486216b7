"""Prints entries of the index and single messages."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.terminal.text import Fact, key_text, show_facts, visible
from transforms.as_json import bytes_to_json, entries_to_json, headers_to_json
from transforms.payloads import view
from transforms.quantities import human_bytes

__all__ = ["EntriesView", "message_json", "show_message"]

_COLUMNS = ("published", "source", "partition", "offset", "key", "size", "id")
_RIGHT = {"partition", "offset", "size"}
_KEY_SHOWN = 40


class EntriesView:
    """Shows entries on stdout: a table on a terminal, else one line each, or one JSON object each."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._out = Console(highlight=False)

    def entries(self, page: pa.Table) -> None:
        """Print a page; nothing for an empty one."""
        rows = entries_to_json(page)
        if self._as_json:
            for row in rows:
                print(json.dumps(row, ensure_ascii=False))
        elif not self._out.is_terminal:
            for row in rows:
                print("\t".join(_words(row)))
        elif rows:
            self._out.print(_table(rows))
        sys.stdout.flush()

    def end(self, found: int, limit: int) -> None:
        """Say on stderr that there is nothing, or more, and what to do next."""
        if not found:
            sys.stderr.write("No message matches.\n")
        elif found > limit:
            more = f"These are the oldest {limit:,}; there are more."
            sys.stderr.write(f"{more} --limit shows more, --from begins later.\n")
        if found and sys.stderr.isatty():
            sys.stderr.write("Next: persistor show ID prints one; persistor plan takes the same selection.\n")


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _RIGHT else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, _words(row)))
    return table


def _words(row: Mapping[str, Any]) -> tuple[str, ...]:
    place = ("" if row[name] is None else str(row[name]) for name in ("partition", "offset"))
    key = key_text(row["key"])
    shown = key if len(key) <= _KEY_SHOWN else f"{key[: _KEY_SHOWN - 1]}…"
    return (
        row["publish_time"] or "",
        visible(row["source"]),
        *place,
        shown,
        human_bytes(row["size"]),
        visible(row["id"]),
    )


def message_json(entry: pa.Table, message: pa.Table, verified_by: str) -> str:
    """A message in the form of the API; ``data`` is its payload, as text or marked base64."""
    [row] = entries_to_json(entry)
    whole = row | {
        "key": bytes_to_json(message["key"][0].as_py()),
        "headers": headers_to_json(message),
        "data": bytes_to_json(message["data"][0].as_py()),
        "verified_by": verified_by,
    }
    return json.dumps(whole, indent=2, ensure_ascii=False)


def show_message(entry: pa.Table, message: pa.Table, verified_by: str, wanted: str | None) -> None:
    """Print a message for people.

    Args:
        wanted: how the payload is shown (``json``, ``text``, ``hex``); None takes the first that fits.
    """
    out = Console(highlight=False)
    show_facts(out, _facts(entry, message, verified_by))
    data: bytes | None = message["data"][0].as_py()
    print()
    if data is None:
        print("No payload: a tombstone.")
        return
    shown = view(data, wanted)
    print("\n".join(visible(line.expandtabs()) for line in shown.text.split("\n")))
    if shown.shown < shown.size:
        sys.stderr.write(
            f"{human_bytes(shown.shown)} of {human_bytes(shown.size)} shown; --payload writes all of it.\n"
        )


def _facts(entry: pa.Table, message: pa.Table, verified_by: str) -> Iterator[Fact]:
    [row] = entries_to_json(entry)
    yield "id", row["id"]
    yield "source", row["source"]
    if row["topic"] != row["source"]:
        yield "topic", row["topic"]
    if row["partition"] is not None:
        yield "partition, offset", f"{row['partition']}, {row['offset']}"
    yield "published", row["publish_time"] or "unknown"
    yield "archived", row["ingestion_time"]
    key = bytes_to_json(message["key"][0].as_py())
    if key is not None:
        yield "key", key_text(key)
    for header in headers_to_json(message):
        yield f"header {header['name']}", "(null)" if header["value"] is None else key_text(header["value"])
    yield "size", human_bytes(row["size"])
    yield "file", f"{row['location']}, row {row['position']}"
    yield "verified by", verified_by
