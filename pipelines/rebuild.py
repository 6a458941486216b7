"""The command rebuild: rebuilds the index from the lake alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from pipelines.settings.maintenance import RebuildSettings
from transforms import registry
from transforms.lake import Lake
from transforms.maintenance.rebuild import Rebuilt, rebuild

__all__ = ["run"]


def run(
    settings: RebuildSettings,
    *,
    progress: Callable[[int, int, int], object] = lambda _indexed, _failed, _messages: None,
) -> Rebuilt:
    """Index every file of the lake; see :func:`transforms.maintenance.rebuild.rebuild`.

    Args:
        settings: the command's settings.
        progress: called with messages indexed, entries and files that failed, and messages read so far.

    Raises:
        ConfigurationError: a setting is not valid.
        TransientError: the index does not answer at the start.
    """
    lake = Lake(settings.lake, settings.lake_config)
    index = registry.index(settings.index).open(settings.index)
    try:
        return rebuild(lake, index, datetime.now(timezone.utc), progress=progress)
    finally:
        index.close()
