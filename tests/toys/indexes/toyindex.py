"""An index store that is SQLite under another name: ``toyindex:///FILE``."""

from __future__ import annotations

from transforms.indexes import Index, sqlite

__all__ = ["ONE_HOST", "open"]

ONE_HOST = True


def open(url: str) -> Index:
    return sqlite.open(url.replace("toyindex://", "sqlite://"))
