"""Formats figures, times and foreign text for the pages."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from markupsafe import Markup, escape

from resubmit_api.errors import as_flag
from transforms import quantities
from transforms.settings.naming import in_words

__all__ = [
    "FILTERS",
    "about",
    "ago",
    "curl",
    "exact",
    "human_bytes",
    "in_words_of_forms",
    "middle",
    "number",
    "pace",
    "pretty_json",
    "short",
    "span",
    "ticked",
    "utc",
    "visible",
]

_DASH = "\u2013"
# Control characters and others that turn, hide or break text; only line feed and tab are harmless.
_UNSAFE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
)
_SPECIAL = re.compile(f"[{_UNSAFE}\ud800-\udfff\U000e0000-\U000e007f]")
_LABELS = {
    ("lossy", None): "“Send even if lossy”",
    ("timestamp", "now"): "timestamps “time of sending”",
}


def number(value: float | None) -> str:
    """A number with separators; a dash for None. Only numbers below ten show fractions."""
    if value is None:
        return _DASH
    if isinstance(value, int) or value >= 10 or value == int(value):
        return f"{round(value):,}"
    return f"{value:.1f}" if value >= 0.1 else "< 0.1"


def human_bytes(value: float | None) -> str:
    """Bytes with a decimal unit such as MB; a dash for None."""
    return _DASH if value is None else quantities.human_bytes(value)


def utc(time: str | datetime | None, digits: int = 0) -> str:
    """A time in UTC to the second, or with ``digits`` of its fraction; a dash for None."""
    moment = _moment(time)
    if moment is None:
        return _DASH
    fraction = f".{moment.microsecond:06d}"[: digits + 1] if digits else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction}"


def ago(time: str | datetime | None, now: datetime | None = None) -> str:
    """How long ago a time was, or how far ahead it is."""
    moment = _moment(time)
    if moment is None:
        return ""
    seconds = ((now or datetime.now(timezone.utc)) - moment).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{_largest(seconds)} ago" if seconds > 0 else f"in {_largest(-seconds)}"


def span(seconds: float | None) -> str:
    """A duration in its two largest units; a dash for None."""
    return _DASH if seconds is None else quantities.span(seconds)


def exact(value: float | None) -> str:
    """A number as typed by a user; empty for None."""
    return "" if value is None else f"{value:,.15g}"


def about(seconds: float | None) -> str:
    """An estimated duration."""
    if seconds is None:
        return _DASH
    return "< 1 s" if seconds < 1 else span(round(seconds))


def pace(rate: Mapping[str, float | None]) -> str:
    """A rate limit in words."""
    messages, size = rate["messages_per_second"], rate["bytes_per_second"]
    said = [f"{exact(messages)} messages"] if messages else []
    said += [human_bytes(size)] if size else []
    return f"at most {' and '.join(said)} per second" if said else "without a rate limit"


def short(text: str, most: int = 80) -> str:
    """The beginning of a text."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def middle(text: str, most: int = 80) -> str:
    """Both ends of a name; the last part mostly distinguishes it."""
    kept = most - 1
    return text if len(text) <= most else f"{text[: kept - kept // 2]}…{text[-(kept // 2) :]}"


def visible(text: str) -> Markup:
    """Foreign text as HTML that shows control characters instead of obeying them."""
    parts: list[Markup] = []
    end = 0
    for found in _SPECIAL.finditer(text):
        parts += [escape(text[end : found.start()]), _mark(found.group())]
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])


def ticked(text: str) -> Markup:
    """A sentence with `code` between backticks, as HTML."""
    parts = text.split("`")
    marked = (
        Markup("<code>{}</code>").format(part) if n % 2 else escape(part) for n, part in enumerate(parts)
    )
    return Markup("").join(marked)


def in_words_of_forms(text: str) -> str:
    """A text whose settings are named as the form has them; other settings as on a command line."""
    return in_words(text, lambda name, value: _LABELS.get((name, value)) or as_flag(name, value))


def pretty_json(value: Any) -> str:
    """Readable JSON; only characters that would affect the surrounding text are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return _SPECIAL.sub(lambda found: json.dumps(found.group())[1:-1], text)


def curl(
    root: str,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: bool = False,
    save: bool = False,
    id: str | None = None,
) -> str:
    """A shell command that sends a request to the API.

    Args:
        root: address of the service.
        method: of the request.
        path: with its query; one of ours, or an operation of the API document.
        body: JSON to send.
        token: send the token from the shell's environment.
        save: save to a file, under the name in the response.
        id: the shell variable that replaces ``{id}``.
    """
    words = ["curl -sS"]
    if method not in ("GET", "POST") or (method == "POST" and body is None):
        words.append(f"-X {method}")
    if save:
        words.append("-OJ")
    parts = (root + path).split("{id}") if id else [root + path]
    words.append(f'"${id}"'.join(map(shlex.quote, parts)))
    if token:
        words.append('-H "Authorization: Bearer $PERSISTOR_TOKEN"')
    if body is not None:
        words.append(f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}")
    return " ".join(words)


def _moment(time: str | datetime | None) -> datetime | None:
    moment = datetime.fromisoformat(time.replace("Z", "+00:00")) if isinstance(time, str) else time
    return None if moment is None else moment.astimezone(timezone.utc)


def _largest(seconds: float) -> str:
    for unit, size in quantities.TIME_UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "1 s"


def _mark(character: str) -> Markup:
    name = unicodedata.name(character, "control character")
    return Markup('<span class="control" title="{}">U+{:04X}</span>').format(name, ord(character))


FILTERS = {
    "about": about,
    "ago": ago,
    "exact": exact,
    "human_bytes": human_bytes,
    "in_words_of_forms": in_words_of_forms,
    "middle": middle,
    "number": number,
    "pace": pace,
    "pretty_json": pretty_json,
    "short": short,
    "span": span,
    "ticked": ticked,
    "utc": utc,
    "visible": visible,
}
"""Jinja filters by name."""
