"""Retention: what is older than a date, deleted in an order that a crash cannot spoil."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.settings.maintenance import ExpireSettings
from transforms import registry
from transforms.lake import Lake
from transforms.maintenance.expire import Expired, expire

__all__ = ["run"]


def run(
    settings: ExpireSettings,
    *,
    progress: Callable[[int, int, int], object] = lambda _deleted, _failed, _found: None,
) -> Expired:
    """Plan, and with ``settings.yes`` delete; see :func:`transforms.maintenance.expire.expire`.

    Args:
        settings: of the command.
        progress: told messages deleted, 0, and messages found to be deleted.

    Raises:
        ConfigurationError: something in the settings cannot be right.
        TransientError: lake or index stayed away.
    """
    lake = Lake(settings.lake, settings.lake_config)
    index = registry.index(settings.index).open(settings.index) if settings.index else None
    try:
        return expire(
            lake,
            index,
            settings.before,
            only=settings.sources,
            plan_only=not settings.yes,
            progress=progress,
        )
    finally:
        if index is not None:
            index.close()
