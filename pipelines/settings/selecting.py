"""The settings that select messages: words for people, or the JSON of a selection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transforms.selection import Selection, parse_selection
from transforms.selection.typed import WHERE, typed_selection
from transforms.settings import made, optional, settings_in, several
from transforms.settings.kinds import COUNT, TEXT, Kind, text_or_file

__all__ = ["SETTINGS_OF_PARTS", "WORDS", "SelectionSettings", "selected", "selected_by"]

_TIME = Kind("TIME", str)


@dataclass(frozen=True, kw_only=True)
class SelectionSettings:
    """Which messages a command means.

    Attributes:
        selection: the JSON of a ``transforms.selection.Selection``; the others are then unset.
        sources: names of sources.
        since: earliest publish time, inclusive.
        until: latest publish time, exclusive.
        ids: message ids.
        where: comparisons as :func:`transforms.selection.typed.typed_selection` reads them.
        limit: at most this many messages.
    """

    sources: tuple[str, ...] = several(
        TEXT, "selection", "only messages of this source, by its name in the index", name="source"
    )
    since: str | None = optional(
        _TIME,
        "selection",
        "published at or after this time: -1h, -30m, -7d, now, a date such as 2026-11-01 (UTC), or a time "
        "such as 2026-11-01T06:00:00+01:00",
        name="from",
    )
    until: str | None = optional(
        _TIME, "selection", "published before this time, written in the same way", name="to"
    )
    where: tuple[str, ...] = several(
        Kind(WHERE, str),
        "selection",
        "only messages that compare so: attributes.version=2, key^=customer-00 (begins with), offset>=100, "
        "attributes.trace (there is one), !key (there is none); also != < <= >",
    )
    ids: tuple[str, ...] = several(TEXT, "selection", "only the message of this id", name="id")
    limit: int | None = optional(COUNT, "selection", "at most this many messages")
    selection: str | None = optional(
        Kind("JSON", text_or_file),
        "selection",
        'the whole selection as JSON or @FILE, instead of the settings above: {"sources": ["orders"], '
        '"published_from": "2026-11-01T00:00:00Z", "where": [{"attributes.version": "2"}]}',
    )


WORDS = tuple(one.name for one in settings_in(SelectionSettings) if one.name != "selection")
"""The settings that select without JSON."""

SETTINGS_OF_PARTS = {
    "sources": "source",
    "published_from": "from",
    "published_to": "to",
    "where": "where",
    "ids": "id",
    "limit": "limit",
}
"""The setting of each part of a selection."""


def selected(settings: SelectionSettings) -> Selection:
    """The selection that the settings mean; without any, of everything.

    Raises:
        ConfigurationError: lists every problem.
    """
    if settings.selection:
        return parse_selection(settings.selection)
    return typed_selection(
        sources=settings.sources,
        published_from=settings.since,
        published_to=settings.until,
        ids=settings.ids,
        where=settings.where,
        limit=settings.limit,
    )


def selected_by(values: Mapping[str, Any]) -> Selection:
    """The same of values by the setting's name."""
    return selected(made(SelectionSettings, values))
