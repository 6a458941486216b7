"""The settings of rebuild, expire, maintain and cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from transforms.settings import flag, optional, required, setting, several
from transforms.settings.kinds import AGE, TEXT, URL, URL_OR_NONE, Kind, past
from transforms.settings.shared import INDEX_URL, JsonSettings, LakeSettings

__all__ = ["CostSettings", "ExpireSettings", "MaintainSettings", "RebuildSettings"]


@dataclass(frozen=True, kw_only=True)
class RebuildSettings(LakeSettings, JsonSettings):
    """Settings of ``persistor rebuild``."""

    command: ClassVar[str] = "rebuild"
    index: str = required(URL, "index", f"the index: {INDEX_URL}")


@dataclass(frozen=True, kw_only=True)
class ExpireSettings(LakeSettings, JsonSettings):
    """Settings of ``persistor expire``.

    Attributes:
        index: None if the lake has no index.
        before: with time zone.
        archived_before: None for the same.
        sources: empty for all.
        yes: delete; otherwise only plan.
    """

    command: ClassVar[str] = "expire"
    index: str | None = required(
        URL_OR_NONE, "index", f"the index of the lake: {INDEX_URL}; none if it has no index"
    )
    before: datetime = required(
        Kind("DATE", past),
        "lake",
        "delete messages published before this: a date such as 2026-11-01 (UTC), a time such as "
        "2026-11-01T06:00:00+01:00, or an age such as 90d",
    )
    archived_before: datetime | None = optional(
        Kind("DATE", past),
        "lake",
        "delete only what was also archived before this; default: the same as `before`",
    )
    sources: tuple[str, ...] = several(
        TEXT, "lake", "only this source, by its name in the index; default: all sources", name="source"
    )
    yes: bool = flag("running", "delete; without it, only the plan is shown")


@dataclass(frozen=True, kw_only=True)
class MaintainSettings(LakeSettings, JsonSettings):
    """Settings of ``persistor maintain``.

    Attributes:
        age: seconds.
    """

    command: ClassVar[str] = "maintain"
    age: float = setting(AGE, "lake", "fold claims that are older than this", default="1d")


@dataclass(frozen=True, kw_only=True)
class CostSettings(LakeSettings, JsonSettings):
    """Settings of ``persistor cost``."""

    command: ClassVar[str] = "cost"
    prices: str | None = optional(
        TEXT, "lake", "a YAML file of prices; default: list prices of the three clouds, pipelines/prices.yaml"
    )
