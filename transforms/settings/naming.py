"""How a text names a setting: as data, in backticks, so that whoever shows the text can word it.

`lossy` names a setting, and `timestamp: now` one with its value. The command writes them ``--lossy`` and
``--timestamp now``, a request of the API ``"lossy": true``, and a page by the label of its form.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["in_words"]

_NAMED = re.compile(r"`(?P<name>[a-z_]+)(?:: (?P<value>[^`]+))?`")


def in_words(text: str, word: Callable[[str, str | None], str | None]) -> str:
    """The text with each setting as it is written where the text is read.

    Args:
        text: of an error, a warning or a note.
        word: how a setting is written, from its name and its value (None where none is named); None
            leaves it as it stands.
    """
    return _NAMED.sub(lambda found: word(found["name"], found["value"]) or found[0], text)
