"""Who may ask: bearer tokens, of which only digests are kept, in a list that is read again when changed."""

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
"""By it scanners for leaked secrets know a token."""
_log = logging.getLogger(__name__)


class Role(IntEnum):
    """What a caller may do; each may do what those before it may."""

    ANYONE = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True)
class Caller:
    """Whoever asks.

    Attributes:
        sources: patterns of the sources that are open to the caller; None is all of them.
        destinations: patterns of ``NAME`` or ``NAME/TOPIC``; None is all of them. In patterns
            ``*`` stands for any text, and nothing else has a meaning of its own.
        digest: of the token; empty where the service has no tokens.
    """

    name: str
    role: Role
    sources: tuple[str, ...] | None = None
    destinations: tuple[str, ...] | None = None
    digest: str = ""

    def may_read(self, source: str) -> bool:
        """Whether the messages of a source are open to the caller."""
        return self.sources is None or _matches(source, self.sources)

    def may_send(self, destination: str, topic: str) -> bool:
        """Whether the caller may send to a topic of a destination; ``{topic}`` and the like stand for any."""
        if self.destinations is None:
            return True
        # Only a pattern's * covers what takes the place of {topic}.
        address = re.sub(r"\{[^}]*\}", "\0", f"{destination}/{topic}")
        return _matches(destination, self.destinations) or _matches(address, self.destinations)

    def may_send_to(self, destination: str) -> bool:
        """Whether any topic of a destination is open to the caller."""
        begins = f"{destination}/"
        return (
            self.destinations is None
            or _matches(destination, self.destinations)
            or any(_matches(begins, [p[:end] for end in range(len(p) + 1)]) for p in self.destinations)
        )


LOCAL = Caller("local", Role.ADMIN)
"""Everybody on this machine, where the service has no tokens."""


def new_token() -> str:
    """A token that nobody can guess (256 random bits), which is why a plain digest of it is safe to keep."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """What is kept of a token: SHA-256, in hexadecimal digits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def line_of(name: str, role: str, digest: str, sources: Sequence[str], destinations: Sequence[str]) -> str:
    """One line of the list, valid YAML and JSON behind its dash."""
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
    """The tokens that are valid now."""

    def __init__(self, where: str) -> None:
        """Read the list.

        Args:
            where: path of the file, or ``${env:NAME}`` where a variable holds the list itself.

        Raises:
            ConfigurationError: everything that is wrong with it.
        """
        self._lock = threading.Lock()
        self._path = None if where.startswith("${") else Path(where)
        self._seen = self._stat()
        text = resolve(where, "--tokens") if self._path is None else self._text()
        self._callers: Sequence[Caller] | None = _parse(text)

    def find(self, digest: str) -> Caller | None:
        """Whose token has this digest; None where it is nobody's, or no longer anybody's.

        Raises:
            TransientError: the file was changed and is not valid, so that nobody can be let in.
        """
        found = None
        for caller in self._current():
            # Each is compared, whichever matches, so that the time of an answer tells nothing.
            if hmac.compare_digest(caller.digest, digest):
                found = caller
        return found

    def named(self, name: str) -> Caller | None:
        """Whose token has this name; raises as :meth:`find` does."""
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
            # The last valid list may hold what was to be revoked.
            _log.error("Nobody is let in until the list of tokens is right: %s", " ".join(error.problems))
            return None
        _log.info("Read the tokens again: %d are valid.", len(callers))
        return callers

    def _stat(self) -> tuple[int, ...]:
        try:
            found = os.stat(self._path) if self._path else None  # noqa: PTH116 - once a request: the quick way
        except OSError:
            return ()
        return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino) if found else ()

    def _text(self) -> str:
        try:
            return Path(self._path or "").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"--tokens {self._path}: the file cannot be read ({why}).") from error


def _parse(text: str) -> Sequence[Caller]:
    try:
        lines = _LINES.validate_python(yaml.safe_load(text) or [])
    except yaml.YAMLError as error:
        # Not its whole text, which quotes the list.
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"--tokens{place}: that is not valid YAML.") from error
    except ValidationError as error:
        # What was given is left out: it may be a token that was written where its digest belongs.
        raise ConfigurationError([_problem(e["loc"], e["msg"]) for e in error.errors()]) from error
    problems = list(_repeated([line.name for line in lines], [line.sha256 for line in lines]))
    if problems:
        raise ConfigurationError(problems)
    return [line.caller() for line in lines]


def _problem(place: Sequence[int | str], text: str) -> str:
    if not place:
        return "--tokens: write a list of tokens, as persistor token prints them, one a line."
    number, *rest = place
    field = ".".join(map(str, rest))
    return f"--tokens, entry {int(number) + 1}{f', {field}' if field else ''}: {text}."


def _repeated(*columns: Sequence[str]) -> list[str]:
    names = columns[0]
    return [
        f"--tokens: {names[row]} has the {what} of another entry."
        for what, column in zip(("name", "token"), columns, strict=True)
        for row, value in enumerate(column)
        if value in column[:row]
    ]


def _matches(text: str, patterns: Sequence[str]) -> bool:
    return any(_fits(text, *pattern.split("*")) for pattern in patterns)


def _fits(text: str, first: str, *others: str) -> bool:
    """Whether a text has these parts in their order, in a time that grows with its length only."""
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
