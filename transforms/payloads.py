"""Shows a payload as text, JSON or hexadecimal, cut to a size that a page can show."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

__all__ = ["VIEWS", "View", "view"]

VIEWS = ("json", "text", "hex")
_MOST_TEXT = 64 << 10
_MOST_HEX = 8 << 10
_MOST_JSON = 1 << 20
_WIDTH = 16
_DEEPEST = 40
_SPACED = {":": ": "}
_OPENING, _CLOSING = frozenset("{["), frozenset("}]")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


@dataclass(frozen=True)
class View:
    """The shown part of a payload.

    Attributes:
        kind: one of ``VIEWS``.
        kinds: the views available for this payload.
        text: the shown text.
        shown: number of bytes shown, of ``size``.
    """

    kind: str
    kinds: tuple[str, ...]
    text: str
    shown: int
    size: int


def view(data: bytes, wanted: str | None) -> View:
    """The requested view, or the best one for this payload."""
    document = _document(data)
    readable = _is_text(data)
    kinds = tuple(
        kind for kind, has in (("json", document is not None), ("text", readable), ("hex", True)) if has
    )
    kind = wanted if wanted in kinds else kinds[0]
    if kind == "hex":
        part = data[:_MOST_HEX]
        return View(kind, kinds, _hex(part), len(part), len(data))
    part = data[:_MOST_TEXT]
    text = part.decode(errors="ignore")
    if kind == "json" and document is not None:
        text, end = _indented(document)
        return View(kind, kinds, text, len(document[:end].encode()), len(data))
    return View(kind, kinds, text, len(part), len(data))


def _is_text(data: bytes) -> bool:
    # A character may be cut at the end.
    part = data[:_MOST_TEXT]
    try:
        part.decode()
    except UnicodeDecodeError as error:
        return len(data) > len(part) and error.end == len(part) and len(part) - error.start < 4
    return True


def _document(data: bytes) -> str | None:
    """The payload as text if it is a JSON object or list."""
    if len(data) > _MOST_JSON or not data.lstrip().startswith((b"{", b"[")):
        return None
    try:
        text = data.decode()
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    return text


def _indented(document: str) -> tuple[str, int]:
    """The document in indented lines, and where it was cut; numbers and duplicate names stay unchanged."""
    lines, length, depth, before = [""], 0, 0, ""
    for found in _TOKEN.finditer(document):
        token = found.group()
        depth -= token in _CLOSING
        empty = before in _OPENING and token in _CLOSING
        if not empty and (before in _OPENING or before == "," or token in _CLOSING):
            lines.append("  " * min(depth, _DEEPEST))
            length += len(lines[-1]) + 1
        lines[-1] += _SPACED.get(token, token)
        depth += token in _OPENING
        length += len(token)
        if length > _MOST_TEXT:
            surplus = length - _MOST_TEXT
            return "\n".join(lines)[:_MOST_TEXT], max(found.start(), found.end() - surplus)
        before = token
    return "\n".join(lines), len(document)


def _hex(data: bytes) -> str:
    return "\n".join(_hex_line(at, data[at : at + _WIDTH]) for at in range(0, len(data), _WIDTH))


def _hex_line(at: int, row: bytes) -> str:
    letters = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in row)
    return f"{at:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  {letters}"
