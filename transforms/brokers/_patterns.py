"""What is said of patterns that match no topic: once in a process, for a job opens several readers."""

from __future__ import annotations

import logging
from collections.abc import Iterable

__all__ = ["say_unmatched"]

_log = logging.getLogger(__name__)
_said: set[tuple[str, str]] = set()


def say_unmatched(broker: str, patterns: Iterable[str], syntax: str) -> None:
    """Warn of patterns that match nothing now, whose topics are read once there are any.

    Args:
        broker: the scheme of its URLs.
        patterns: those that match nothing.
        syntax: what the characters of a pattern mean there.
    """
    for pattern in patterns:
        if (broker, pattern) not in _said:
            _said.add((broker, pattern))
            _log.warning(
                "%s: %r matches nothing now. %s What appears later is read.", broker, pattern, syntax
            )
