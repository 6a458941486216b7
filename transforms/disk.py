"""Objects of a lake on a disk: a name appears once all of its content is on the disk, or never."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from pathlib import Path, PurePosixPath

from transforms.errors import PermanentError, TransientError

__all__ = ["create", "sync"]

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV}
# Some file systems cannot sync directories; others may only be passed through, or not be written.
_CANNOT_SYNC = {errno.EINVAL, errno.EACCES, errno.EROFS, errno.ENOENT}


def create(root: Path, path: str, data: memoryview) -> bool:
    """Write a file that is not there yet, all of it or nothing, whatever cuts the writing off.

    Returns:
        False where there is one of that name.

    Raises:
        OSError: it cannot be written.
        PermanentError: the file system has no hard links, without which nothing is created only once.
    """
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    # Hidden from our own lists by its end, from other readers by its beginning.
    temporary = target.parent / f".{uuid.uuid4().hex}#0"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return _linked(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def sync(root: Path, path: str) -> None:
    """Have the disk keep a file and all that leads to it.

    Raises:
        PermanentError: the disk failed.
        TransientError: it is not known whether it will.
    """
    above = (root / directory for directory in PurePosixPath(path).parents)
    for place in (root / path, *above, root.parent):
        _sync(place)


def _linked(temporary: Path, target: Path) -> bool:
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise PermanentError(
                f"{target} cannot be created, for its file system has no hard links ({error.strerror}): "
                "put the lake on another one, or into an object store."
            ) from error
        raise
    return True


def _sync(place: Path) -> None:
    try:
        opened = os.open(place, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        if error.errno in _CANNOT_SYNC:
            return
        # A disk that has failed to keep what it took may say on the next call that all is well.
        kind = PermanentError if error.errno == errno.EIO else TransientError
        raise kind(f"{place} is not known to be on the disk: {error.strerror}") from error
