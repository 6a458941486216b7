"""Where entries of archived messages go: progress counts for these sinks only.

All jobs with one lake and one source prefix share the claims and the group at the broker, also those that
write to different indexes. What one of them has made durable is not in the index of another. So a lake
records the sinks that were used with it, and as soon as there are several, each job goes on where it knows
its own messages to be durable: after the ``durable`` of a claim of its own.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from transforms.errors import TransientError
from transforms.lake import INTERNAL, Lake, ObjectMissingError
from transforms.reading.claims import now_us
from transforms.stored import dump, load

__all__ = ["Sinks", "Used", "enter"]


@dataclass(frozen=True)
class Sinks:
    """The sinks of a job, as URLs that may hold references to secrets; None for no such sink."""

    index: str | None = None
    metadata: str | None = None

    @property
    def id(self) -> str:
        """Distinguishes them from others, also after a change of credentials."""
        text = f"{_place(self.index)}|{_place(self.metadata)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Used:
    """Sinks that were used with a lake.

    Attributes:
        since_us: when these were used first, microseconds since 1970; 0 if that is now.
        alone: whether no others were.
    """

    since_us: int
    alone: bool


def enter(lake: Lake, group: str, sinks: Sinks) -> Used:
    """Record that these sinks are used.

    Args:
        group: the progress that they count for.

    Raises:
        TransientError: the lake does not answer.
    """
    folder = f"{INTERNAL}sinks/{group}"
    path = f"{folder}/{sinks.id}.json"
    known = {found for found, _ in lake.list(folder)}
    if path not in known:
        content = {"index": _place(sinks.index), "metadata": _place(sinks.metadata), "since_us": now_us()}
        lake.put_new(path, dump(content).encode())
    try:
        entry = load(lake.get(path), lake.location(path))
    except ObjectMissingError as error:
        raise TransientError(f"{path} is being written by another job") from error
    return Used(entry["since_us"] if path in known else 0, not known - {path})


def _place(url: str | None) -> str:
    """Without credentials and options, which change what is used as little as a new password does."""
    return re.sub(r"//.*@", "//", (url or "").partition("?")[0])
