"""How texts for somebody at a command line name the settings."""

from __future__ import annotations

from transforms.settings.naming import in_words

__all__ = ["in_words_of_commands"]


def in_words_of_commands(text: str) -> str:
    """A text whose settings are named as they are typed: ``--timestamp now``."""
    return in_words(text, _flag)


def _flag(name: str, value: str | None) -> str | None:
    from pipelines.settings.declared import commands_with  # noqa: PLC0415 - the overview answers at once

    if not commands_with(name):
        return None
    return f"--{name}" if value is None else f"--{name} {value}"
