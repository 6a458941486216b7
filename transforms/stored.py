"""JSON that is stored: it has a version, unknown fields are ignored, a newer version is refused.

What is added to an object without changing what its other fields mean keeps the version: an older
release ignores it. What an older release must not ignore raises the version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from transforms.errors import PermanentError

__all__ = ["dump", "from_fields", "load", "load_as"]

_T = TypeVar("_T")


def dump(values: Mapping[str, Any], *, version: int = 1, key: str = "version") -> str:
    """The stored form of JSON types, with its version under ``key``."""
    return json.dumps({key: version, **values})


def load(
    data: bytes | memoryview | str, what: str, *, newest: int = 1, key: str = "version"
) -> dict[str, Any]:
    """The values that :func:`dump` has stored, without the version; what has none is of version 1.

    Args:
        what: names the object in errors.
        newest: the highest version that the caller knows.

    Raises:
        PermanentError: it is empty, damaged or of a newer version; says what to do.
    """
    if not data:
        raise PermanentError(
            f"{what} is empty: its writer was cut off, and nothing relies on it. Delete it and start again."
        )
    try:
        found: dict[str, Any] = {key: 1, **json.loads(data if isinstance(data, str) else bytes(data))}
        version = int(found.pop(key))
    except (ValueError, TypeError) as error:
        raise _damaged(what) from error
    if version > newest:
        raise PermanentError(
            f"{what} was written by a newer release of Persistor (version {version}, this one knows "
            f"{newest}): use that release here too."
        )
    return found


def load_as(kind: type[_T], data: bytes | memoryview | str, what: str) -> _T:
    """A dataclass of what :func:`load` gives; raises as it does."""
    found = load(data, what)
    try:
        return from_fields(kind, found)
    except TypeError as error:
        raise _damaged(what) from error


def from_fields(kind: type[_T], values: Mapping[str, Any]) -> _T:
    """A dataclass of those values that it has fields for.

    Raises:
        TypeError: a field that it needs is missing.
    """
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in names})


def _damaged(what: str) -> PermanentError:
    return PermanentError(f"{what} is damaged: put back a whole copy of it.")
