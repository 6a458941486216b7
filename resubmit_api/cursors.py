"""Opaque cursors: where a page ended, bound to the query it belongs to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from datetime import datetime, timezone
from typing import Any

from apiflask.exceptions import HTTPError

from resubmit_api.errors import problem

__all__ = ["asked_at", "job_cursor", "read_job_cursor", "read_search_cursor", "search_cursor"]

_MOST = 8192


def search_cursor(question: str, after: tuple[int | None, str], asked: datetime) -> str:
    """A cursor after ``after`` (publish time in µs or None, id) in the search for ``question``.

    ``asked`` is when its first page was: relative times mean the same on every page.
    """
    return _encode(["s", _digest(question), *after, asked.isoformat()])


def read_search_cursor(question: str, cursor: str) -> tuple[int | None, str]:
    """``after`` of :func:`search_cursor`; 400 for any other value."""
    match _decode(cursor):
        case ["s", str(digest), int() | None as time, str(id), *_] if -(1 << 63) <= (time or 0) < 1 << 63:
            if digest != _digest(question):
                raise problem(
                    400, "cursor", "The cursor belongs to another selection; start without a cursor."
                )
            return time, id
    raise _invalid()


def asked_at(cursor: object) -> datetime | None:
    """``asked`` of :func:`search_cursor`; None for any other value."""
    try:
        match _decode(cursor) if isinstance(cursor, str) else None:
            case ["s", _, _, _, str(asked)]:
                return datetime.fromisoformat(asked).astimezone(timezone.utc)
    except (HTTPError, ValueError, OverflowError):
        return None
    return None


def job_cursor(id: str) -> str:
    """A cursor after a job."""
    return _encode(["j", id])


def read_job_cursor(cursor: str) -> str:
    """The inverse of :func:`job_cursor`; 400 for any other value."""
    match _decode(cursor):
        case ["j", str(id)]:
            return id
    raise _invalid()


def _digest(question: str) -> str:
    return hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _encode(value: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


def _decode(cursor: str) -> Any:
    if len(cursor) > _MOST:
        raise _invalid()
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # refuses lone surrogates
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _invalid() from error
    return value


def _invalid() -> HTTPError:
    return problem(400, "cursor", "Pass the cursor exactly as returned in next, or start without one.")
