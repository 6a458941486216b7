"""Secrets by reference: ``${env:NAME}`` and ``${file:PATH}``, resolved where they are used."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from transforms.errors import ConfigurationError

__all__ = ["resolve", "resolve_all"]

_REFERENCE = re.compile(r"\$\{(env|file):([^}]+)\}")


def resolve(value: str, name: str) -> str:
    """Replace every reference in ``value`` by its secret on this machine.

    Args:
        value: the text as configured.
        name: name of the setting.

    Raises:
        ConfigurationError: a named variable or file does not exist here.
    """
    return _REFERENCE.sub(lambda match: _look_up(match[1], match[2], name), value)


def resolve_all(values: Mapping[str, str]) -> dict[str, str]:
    """Resolve every value of a mapping; see :func:`resolve`."""
    return {name: resolve(value, name) for name, value in values.items()}


def _look_up(kind: str, place: str, name: str) -> str:
    try:
        return os.environ[place] if kind == "env" else Path(place).read_text(encoding="utf-8").rstrip("\n")
    except (KeyError, OSError) as error:
        raise ConfigurationError(
            f"{name}: ${{{kind}:{place}}} does not exist; set the variable or mount the file on this machine."
        ) from error
