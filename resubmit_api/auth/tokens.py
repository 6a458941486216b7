"""Bearer tokens: only digests are stored, in a list that is reloaded when it changes."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from transforms.errors import ConfigurationError, TransientError
from transforms.secrets import resolve

__all__ = ["LOCAL", "Caller", "Role", "Tokens", "digest_of", "line_of", "new_token"]

_PREFIX = "persistor_"
"""Lets scanners for leaked secrets recognise a token."""
_log = logging.getLogger(__name__)


class Role(IntEnum):
    """What a caller may do; each role includes the ones before it."""

    ANYONE = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True)
class Caller:
    """The sender of a request.

    Attributes:
        sources: patterns of the sources the caller may read; None allows all.
        destinations: patterns of ``NAME`` or ``NAME/TOPIC``; None allows all. In patterns, ``*`` matches any
            text; every other character matches itself.
        digest: digest of the token; empty if the service has no tokens.
    """

    name: str
    role: Role
    sources: tuple[str, ...] | None = None
    destinations: tuple[str, ...] | None = None
    digest: str = ""

    def may_read(self, source: str) -> bool:
        """Whether the caller may read the messages of a source."""
        return self.sources is None or _matches(source, self.sources)

    def may_send(self, destination: str, topic: str) -> bool:
        """Whether the caller may send to a topic; placeholders such as ``{topic}`` match any."""
        if self.destinations is None:
            return True
        # Only * in a pattern covers the values of {topic}.
        address = re.sub(r"\{[^}]*\}", "\0", f"{destination}/{topic}")
        return _matches(destination, self.destinations) or _matches(address, self.destinations)

    def may_send_to(self, destination: str) -> bool:
        """Whether the caller may send to any topic of a destination."""
        begins = f"{destination}/"
        return (
            self.destinations is None
            or _matches(destination, self.destinations)
            or any(_matches(begins, [p[:end] for end in range(len(p) + 1)]) for p in self.destinations)
        )


LOCAL = Caller("local", Role.ADMIN)
"""The caller of a service without tokens: everybody on this machine."""


def new_token() -> str:
    """A new token of 256 random bits; nobody can guess it, so storing a plain digest is safe."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """The stored form of a token: SHA-256 in hexadecimal digits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def line_of(name: str, role: str, digest: str, sources: Sequence[str], destinations: Sequence[str]) -> str:
    """One line of the list; the part after the dash is valid YAML and JSON."""
    lists = {"sources": list(sources), "destinations": list(destinations)}
    whole = {"name": name, "role": role, "sha256": digest} | {k: v for k, v in lists.items() if v}
    return f"- {json.dumps(whole)}"


_Pattern = Annotated[str, Field(min_length=1, max_length=500)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$")
    role: Literal["viewer", "operator", "admin"]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    sources: tuple[_Pattern, ...] | None = None
    destinations: tuple[_Pattern, ...] | None = None

    def caller(self) -> Caller:
        return Caller(self.name, Role[self.role.upper()], self.sources, self.destinations, self.sha256)


_LINES = TypeAdapter(list[_Line])


class Tokens:
    """The currently valid tokens."""

    def __init__(self, where: str) -> None:
        """Read the list.

        Args:
            where: path of the file, or ``${env:NAME}`` if a variable holds the list itself.

        Raises:
            ConfigurationError: lists all of its errors.
        """
        self._lock = threading.Lock()
        self._path = None if where.startswith("${") else Path(where)
        self._seen = self._stat()
        text = resolve(where, "`tokens`") if self._path is None else self._text()
        self._callers: Sequence[Caller] | None = _parse(text)

    def find(self, digest: str) -> Caller | None:
        """The owner of the token with this digest; None if it is unknown or revoked.

        Raises:
            TransientError: the file was changed and is no longer valid, so nobody can log in.
        """
        found = None
        for caller in self._current():
            # Every digest is compared, so that the response time reveals nothing.
            if hmac.compare_digest(caller.digest, digest):
                found = caller
        return found

    def named(self, name: str) -> Caller | None:
        """The owner of the token with this name; raises like :meth:`find`."""
        return next((caller for caller in self._current() if caller.name == name), None)

    def _current(self) -> Sequence[Caller]:
        with self._lock:
            if self._path is not None and (now := self._stat()) != self._seen:
                self._seen, self._callers = now, self._read_again()
            if self._callers is None:
                raise TransientError("The list of tokens is not valid.")
            return self._callers

    def _read_again(self) -> Sequence[Caller] | None:
        try:
            callers = _parse(self._text())
        except ConfigurationError as error:
            # The last valid list may contain tokens that were meant to be revoked.
            _log.error(
                "The list of tokens is not valid; every request is refused until it is fixed: %s",
                " ".join(error.problems),
            )
            return None
        _log.info("Reloaded the tokens: %d are valid.", len(callers))
        return callers

    def _stat(self) -> tuple[int, ...]:
        try:
            found = os.stat(self._path) if self._path else None  # noqa: PTH116 - called once per request: the fastest way
        except OSError:
            return ()
        return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino) if found else ()

    def _text(self) -> str:
        try:
            return Path(self._path or "").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"`tokens: {self._path}`: the file cannot be read ({why}).") from error


def _parse(text: str) -> Sequence[Caller]:
    try:
        lines = _LINES.validate_python(yaml.safe_load(text) or [])
    except yaml.YAMLError as error:
        # Not the whole text of the error, which quotes the list.
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"`tokens`{place}: not valid YAML.") from error
    except ValidationError as error:
        # The value is left out: it may be a token in place of its digest.
        raise ConfigurationError([_problem(e["loc"], e["msg"]) for e in error.errors()]) from error
    problems = list(_repeated([line.name for line in lines], [line.sha256 for line in lines]))
    if problems:
        raise ConfigurationError(problems)
    return [line.caller() for line in lines]


def _problem(place: Sequence[int | str], text: str) -> str:
    if not place:
        return "`tokens`: write a list of tokens, one per line, as printed by persistor token."
    number, *rest = place
    field = ".".join(map(str, rest))
    return f"`tokens`, entry {int(number) + 1}{f', {field}' if field else ''}: {text}."


def _repeated(*columns: Sequence[str]) -> list[str]:
    names = columns[0]
    return [
        f"`tokens`: {names[row]} has the {what} of another entry."
        for what, column in zip(("name", "token"), columns, strict=True)
        for row, value in enumerate(column)
        if value in column[:row]
    ]


def _matches(text: str, patterns: Sequence[str]) -> bool:
    return any(_fits(text, *pattern.split("*")) for pattern in patterns)


def _fits(text: str, first: str, *others: str) -> bool:
    """Whether a text has these parts in this order, in time linear in its length."""
    if not others:
        return text == first
    *middle, last = others
    place, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, place, end)
        if found < 0:
            return False
        place = found + len(part)
    return text.startswith(first) and text.endswith(last) and place <= end
