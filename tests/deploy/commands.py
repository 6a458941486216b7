"""Command lines in templates, read as the command itself would read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.settings import parsing

__all__ = ["parsed"]

_KINDS = {
    kind.command: kind
    for kind in (getattr(parsing, name) for name in parsing.__all__)
    if hasattr(kind, "command")
}


def parsed(words: Sequence[str]) -> Any:
    """The settings of a command's name and its arguments.

    Raises:
        ConfigurationError: they are refused.
    """
    settings, _ = parsing.parse(_KINDS[words[0]], words[1:])
    return settings
