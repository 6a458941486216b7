"""Which sources of a lake are archives of a destination's topic: what is sent there is archived again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote

from transforms.brokers import Destination
from transforms.lake import INTERNAL, Lake, ObjectMissingError
from transforms.stored import load

__all__ = ["with_archives"]

_SOURCES = f"{INTERNAL}sources"


def with_archives(destination: Destination, lakes: Sequence[Lake]) -> Destination:
    """The destination with the sources under which these lakes archive it.

    One whose broker does not say who it is counts as archived nowhere.

    Raises:
        TransientError: a lake is away.
    """
    if destination.archived_as is not None or not destination.incarnation:
        return destination
    found = {source for lake in lakes for source in _sources(lake, destination)}
    return replace(destination, archived_as=sorted(found))


def _sources(lake: Lake, destination: Destination) -> list[str]:
    paths = [path for path, _ in lake.list(_SOURCES)]
    named = ((unquote(path.removeprefix(f"{_SOURCES}/").partition("/")[0]), path) for path in paths)
    # Names first: to read them all would be a request for each topic that was ever archived.
    return [source for source, path in named if destination.may_be(source) and _is(lake, path, destination)]


def _is(lake: Lake, path: str, destination: Destination) -> bool:
    try:
        entry = load(lake.get(path), lake.location(path))
    except ObjectMissingError:
        return False  # removed since it was listed
    return (entry["broker"], entry["incarnation"]) == (destination.identity, destination.incarnation)
