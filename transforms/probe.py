"""Whether a store keeps the one promise that exactly once rests on: it creates, and does not overwrite."""

from __future__ import annotations

from transforms.errors import ConfigurationError
from transforms.lake import INTERNAL, AccessDeniedError, Lake, ObjectMissingError

__all__ = ["REMEDY", "overwrites", "refuse_overwriting"]

REMEDY = "Persistor would lose messages here: use a store with conditional writes."

_PATH = f"{INTERNAL}conditional-writes"
_CONTENT = b"Written at every start, to see that the store refuses to write it again."


def overwrites(lake: Lake, path: str, content: bytes) -> bool:
    """Whether the store writes an object again that was to be created only, as if it were not there.

    Raises:
        AccessDeniedError: the object is not there, and must not be created.
        TransientError: the store is away.
    """
    if not _is_there(lake, path):
        lake.put_new(path, content)
    try:
        return lake.put_new(path, content)
    except AccessDeniedError:
        return False  # whoever may not replace objects overwrites none


def refuse_overwriting(lake: Lake) -> None:
    """Ask it of one small object, which stays, before anything else is written.

    A directory needs no asking: there it is Persistor itself that creates.

    Raises:
        ConfigurationError: the store overwrites.
        AccessDeniedError: it lets us write nothing.
        TransientError: the store is away.
    """
    if not lake.url.startswith("file://") and overwrites(lake, _PATH, _CONTENT):
        raise ConfigurationError(
            f"`lake` {lake.url}: the store overwrote an object that was to be created only. {REMEDY}"
        )


def _is_there(lake: Lake, path: str) -> bool:
    try:
        lake.get(path)
    except ObjectMissingError:
        return False
    return True
