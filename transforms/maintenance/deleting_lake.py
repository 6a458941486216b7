"""The one way in which files of messages leave a lake."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import obstore

from transforms.lake import INTERNAL, Lake, ObjectMissingError

__all__ = ["DeletingLake"]

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}#0")
_NOT_THERE = "persistor-may-delete"


class DeletingLake(Lake):
    """The only lake class that deletes files of messages; only maintenance may create one."""

    @classmethod
    def of(cls, lake: Lake) -> DeletingLake:
        """The same lake, with the methods that delete."""
        _, (url, config) = lake.__reduce__()
        return cls(url, config)

    def written_files(self) -> Iterator[tuple[str, int, datetime]]:
        """Path, size and modification time of each file."""
        pages = obstore.list(self._store, chunk_size=1000)
        while page := self._call(lambda: next(pages, None)):
            metas = (meta for meta in page if not meta["path"].startswith(INTERNAL))
            yield from ((meta["path"], meta["size"], meta["last_modified"]) for meta in metas)

    def written(self, path: str) -> tuple[int, datetime]:
        """Size and modification time of a file, by the store's clock; raises like :meth:`get`."""
        found = self._call(lambda: obstore.head(self._store, path))
        return found["size"], found["last_modified"]

    def get_written(self, path: str) -> tuple[memoryview, datetime]:
        """An object with its modification time; raises like :meth:`get`."""
        found = self._call(lambda: obstore.get(self._store, path))
        return memoryview(self._call(found.bytes)), found.meta["last_modified"]

    def may_delete(self) -> None:
        """Check the right to delete by deleting an object that does not exist.

        Raises:
            AccessDeniedError: deleting is not allowed.
        """
        self._delete_one(_NOT_THERE)

    def delete_all(self, paths: Sequence[str]) -> None:
        """Delete objects, in few requests if the store supports that; missing ones are no error."""
        try:
            self._call(lambda: obstore.delete(self._store, list(paths)))
        except ObjectMissingError:
            for path in paths:
                self._delete_one(path)

    def delete_temporary(self, written_before: datetime) -> int:
        """Delete what kills have left of files that were being written to a disk; stores keep nothing such.

        Returns:
            How many.
        """
        found = self._root.rglob(".*#0") if self._root else ()
        old = [one for one in found if _TEMPORARY.fullmatch(one.name) and _is_older(one, written_before)]
        for one in old:
            one.unlink(missing_ok=True)
        return len(old)

    def _delete_one(self, path: str) -> None:
        try:
            self._call(lambda: obstore.delete(self._store, path))
        except ObjectMissingError:
            return


def _is_older(file: Path, than: datetime) -> bool:
    try:
        return file.stat().st_mtime < than.timestamp()
    except FileNotFoundError:
        return False  # its writer has finished
