"""Command lines in templates, read as the command itself would read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines import options

__all__ = ["parsed"]

_KINDS = {
    kind.command: kind
    for kind in (getattr(options, name) for name in options.__all__)
    if hasattr(kind, "command")
}


def parsed(words: Sequence[str]) -> Any:
    """The settings of a command's name and its arguments.

    Raises:
        ConfigurationError: they are refused.
    """
    settings, _ = options.parse(_KINDS[words[0]], words[1:])
    return settings
