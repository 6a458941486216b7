"""Whether the clock of a store and that of this machine agree, on which retention by time depends."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone

from transforms.errors import ConfigurationError
from transforms.lake import INTERNAL, AccessDeniedError, Lake

__all__ = ["LARGEST_DIFFERENCE", "refuse_other_clock"]

LARGEST_DIFFERENCE = timedelta(minutes=5)
"""Beyond it nothing is deleted."""


def refuse_other_clock(lake: Lake) -> bool:
    """Compare the clocks by an object that is written and deleted again.

    Returns:
        False where these credentials may not write, so that nothing was compared.

    Raises:
        ConfigurationError: they differ by more than five minutes.
        TransientError: the lake does not answer.
    """
    path, before = f"{INTERNAL}clock/{uuid.uuid4().hex}", datetime.now(timezone.utc)
    try:
        lake.put_new(path, b"Written to compare clocks.")
    except AccessDeniedError:
        return False
    try:
        written, after = lake.modified(path), datetime.now(timezone.utc)
    finally:
        lake.delete(path)
    difference = max(before - written, written - after)
    if difference > LARGEST_DIFFERENCE:
        raise ConfigurationError(
            f"{lake.url}: the clock of the store says {written:%Y-%m-%d %H:%M:%S} UTC, the clock of this "
            f"machine {after:%Y-%m-%d %H:%M:%S} UTC. Nothing is deleted by time while they differ by more "
            f"than {LARGEST_DIFFERENCE // timedelta(minutes=1)} minutes: set the clock that is wrong."
        )
    return True
