"""The command expire: deletes messages older than a date, in an order that is safe in a crash."""

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
        settings: the command's settings.
        progress: called with messages deleted, 0, and messages to delete.

    Raises:
        ConfigurationError: a setting is not valid.
        TransientError: lake or index did not answer.
    """
    lake = Lake(settings.lake, settings.lake_config)
    index = registry.index(settings.index).open(settings.index) if settings.index else None
    try:
        return expire(
            lake,
            index,
            settings.before,
            archived_before=settings.archived_before,
            only=settings.sources,
            plan_only=not settings.yes,
            progress=progress,
        )
    finally:
        if index is not None:
            index.close()
