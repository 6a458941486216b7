"""The settings of rebuild and expire."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from transforms.settings import flag, required, several
from transforms.settings.kinds import TEXT, URL, URL_OR_NONE, Kind, past
from transforms.settings.shared import INDEX_URL, JsonSettings, LakeSettings

__all__ = ["ExpireSettings", "RebuildSettings"]


@dataclass(frozen=True, kw_only=True)
class RebuildSettings(LakeSettings, JsonSettings):
    """What ``persistor rebuild`` does."""

    command: ClassVar[str] = "rebuild"
    index: str = required(URL, "index", f"the index: {INDEX_URL}")


@dataclass(frozen=True, kw_only=True)
class ExpireSettings(LakeSettings, JsonSettings):
    """What ``persistor expire`` does.

    Attributes:
        index: None where nothing points into the lake.
        before: with time zone.
        sources: all of them where it is empty.
        yes: delete; else only the plan is made.
    """

    command: ClassVar[str] = "expire"
    index: str | None = required(
        URL_OR_NONE, "index", f"the index that points into the lake: {INDEX_URL}; none where nothing does"
    )
    before: datetime = required(
        Kind("DATE", past),
        "lake",
        "delete what was published before this: a date such as 2026-11-01 (UTC), a time such as "
        "2026-11-01T06:00:00+01:00, or an age such as 90d",
    )
    sources: tuple[str, ...] = several(
        TEXT, "lake", "a source to look at, by its name in the index; all of them unless given", name="source"
    )
    yes: bool = flag("running", "delete; without it the plan alone is shown")
