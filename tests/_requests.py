"""Counts what a lake asks its store."""

from __future__ import annotations

from collections import Counter
from typing import Any

import obstore
import pytest

__all__ = ["count_requests"]


def count_requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Requests by kind from now on; one list counts once for each page that is read."""
    counts: Counter[str] = Counter()

    def counted(name: str) -> Any:
        call = getattr(obstore, name)

        def counting(*arguments: Any, **named: Any) -> Any:
            counts[name] += 1
            return call(*arguments, **named)

        return counting

    for name in ("get", "get_ranges", "head", "put", "delete", "list", "list_with_delimiter"):
        monkeypatch.setattr(obstore, name, counted(name))
    return counts
