"""Kinds of setting values: how they are written, and the errors of invalid ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Generic, TypeVar

__all__ = [
    "AGE",
    "COUNT",
    "FLAG",
    "PAIRS",
    "PORT",
    "SIZE",
    "TEXT",
    "URL",
    "URL_OR_NONE",
    "WHOLE",
    "Kind",
    "pair",
    "past",
    "positions",
    "shard",
    "text_or_file",
]


_T = TypeVar("_T")


@dataclass(frozen=True)
class Kind(Generic[_T]):
    """How the value of a setting is written.

    Attributes:
        metavar: placeholder of the value in the help.
        convert: from the text to the value; raises ``ValueError`` with the expected form if the metavar
            does not show it.
        pattern: regular expression that every valid text matches completely.
    """

    metavar: str
    convert: Callable[[str], _T]
    pattern: str = ".+"


_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_AGES = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]+) ?([A-Za-z]*)", text)
    if not match or match[2].lower() not in _SIZES or int(match[1]) == 0:
        raise ValueError("write a size such as 500kB, 64MiB or 1GiB")
    return int(match[1]) * _SIZES[match[2].lower()]


def _age(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([a-z]*)", text)
    if not match or match[2] not in _AGES or float(match[1]) == 0:
        raise ValueError("write a time such as 500ms, 30s, 5m or 2h")
    return float(match[1]) * _AGES[match[2]]


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or int(text) == 0:
        raise ValueError("write a whole number from 1 on")
    return int(text)


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text):
        raise ValueError("write a whole number from 0 on")
    return int(text)


def shard(text: str) -> tuple[int, int]:
    """Number of a shard and count of shards."""
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError("write I/N, I from 0 to N-1: 0/8 is the first of eight")
    return int(match[1]), int(match[2])


def positions(text: str) -> tuple[str, int, int, int]:
    """Topic, partition, first and last position."""
    match = re.fullmatch(r"(.+)/([0-9]+)/([0-9]+)-([0-9]+)", text)
    if not match or int(match[3]) > int(match[4]):
        raise ValueError(
            "write TOPIC/PARTITION/FIRST-LAST: orders/3/1205-1274 gives up 70 offsets of partition 3"
        )
    return match[1], int(match[2]), int(match[3]), int(match[4])


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError("write a port from 0 to 65535, 0 for none (`off` in YAML means false)")
    return int(text)


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError("write true or false")
    return text == "true"


def past(text: str) -> datetime:
    """A date (UTC), a time with its zone, or an age such as ``90d``."""
    from transforms.selection.conditions import parse_time  # noqa: PLC0415 - --help answers at once

    now = datetime.now(timezone.utc)
    if re.fullmatch(r"[0-9]+[smhd]", text):
        try:
            return now - timedelta(seconds=_age(text))
        except (ValueError, OverflowError) as error:
            raise ValueError("write an age above 0, such as 90d") from error
    try:
        time = parse_time(f"{text}T00:00:00Z" if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else text)
    except ValueError as error:
        raise ValueError(f"{error}, or a date, or an age such as 90d") from error
    if time > now:
        raise ValueError("this time is in the future; write a time in the past")
    return time


def pair(text: str) -> tuple[str, str]:
    """A name and a value with ``=`` between them."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError  # the metavar shows it
    return name, value


def text_or_file(text: str) -> str:
    """The text, or after ``@`` the content of a file."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the file cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _url_or_none(text: str) -> str | None:
    return None if text == "none" else text


URL, TEXT = Kind("URL", str, "none|[a-z][a-z0-9+.]*://.+"), Kind("TEXT", str)
URL_OR_NONE = Kind("URL", _url_or_none, URL.pattern)
COUNT, WHOLE = Kind("N", _count, "0*[1-9][0-9]*"), Kind("N", _whole, "[0-9]+")
PORT = Kind("PORT", _port, "[0-9]{1,5}")
SIZE = Kind("SIZE", _size, "0*[1-9][0-9]* ?([kKmMgG]?[bB]|[kKmMgG][iI][bB])?")
AGE = Kind("TIME", _age, r"[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)?")
PAIRS = Kind("NAME=VALUE", pair, "[^=]+=.*")
FLAG = Kind("", _flag, "true|false")
