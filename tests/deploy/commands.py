"""Command lines in templates, read as the command itself would read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.settings.declared import CLASSES
from pipelines.settings.parsing import parse

__all__ = ["parsed"]


def parsed(words: Sequence[str]) -> Any:
    """The settings of a command's name and its arguments.

    Raises:
        ConfigurationError: they are refused.
    """
    settings, _ = parse(CLASSES[words[0]], words[1:])
    return settings
