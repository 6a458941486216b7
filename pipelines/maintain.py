"""The command maintain: folds claims into segments, and removes what kills have left."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from pipelines.settings.maintenance import MaintainSettings
from transforms.lake import Lake
from transforms.maintenance.maintain import Maintained, maintain

__all__ = ["run"]


def run(
    settings: MaintainSettings,
    *,
    progress: Callable[[int, int, int], object] = lambda _done, _failed, _all: None,
) -> Maintained:
    """Maintain a lake; see :func:`transforms.maintenance.maintain.maintain`.

    Args:
        settings: the command's settings.
        progress: called with the claims folded so far.

    Raises:
        ConfigurationError: a setting is not valid, or a clock is wrong.
        TransientError: the lake did not answer.
    """
    lake = Lake(settings.lake, settings.lake_config)
    return maintain(lake, timedelta(seconds=settings.age), progress=progress)
