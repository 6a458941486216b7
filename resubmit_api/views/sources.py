"""The endpoints of source figures and of dead letters by cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, TypeVar

from apiflask import APIBlueprint

from resubmit_api.auth import open_to
from resubmit_api.auth.grants import who
from resubmit_api.auth.tokens import Role
from resubmit_api.errors import AwayError, needs
from resubmit_api.overview import SourceFacts
from resubmit_api.overview.causes import Causes, selection_for
from resubmit_api.schemas import NoQuery
from resubmit_api.schemas.sources import DeadLetters, SourceList
from resubmit_api.views.context import parts, problems
from transforms.times import iso

__all__ = ["blueprint", "callers_causes", "callers_silent", "callers_sources"]

_T = TypeVar("_T")
_PATIENCE = 20.0
"""Seconds that an API request waits for the first count; a page shows a notice instead."""
_HIDDEN = "A persist process"

blueprint = APIBlueprint("sources", __name__, url_prefix="/v1", tag="Sources")


@blueprint.get("/sources")
@open_to(Role.VIEWER)
@blueprint.input(NoQuery, location="query")
@blueprint.output(SourceList)
@blueprint.doc(operation_id="listSources", responses=problems(400, 422, 503))
def index(query_data: NoQuery) -> dict[str, Any]:  # noqa: ARG001 - no parameters
    """List sources.

    The archived messages of each source, its rate and its lag. The figures are some seconds old; with very
    many messages, some minutes.
    """
    found = _waited_for(callers_sources)
    return {"sources": list(map(_source, found)), "silent": callers_silent()}


def callers_silent() -> list[str]:
    """Addresses of persist that do not answer; viewers learn only how many."""
    silent = parts().overview.live().silent
    return silent if who().role >= Role.OPERATOR else [_HIDDEN] * len(silent)


@blueprint.get("/dead-letters")
@open_to(Role.VIEWER)
@blueprint.input(NoQuery, location="query")
@blueprint.output(DeadLetters)
@blueprint.doc(operation_id="listDeadLetters", responses=problems(400, 422, 503))
def dead_letters(query_data: NoQuery) -> dict[str, Any]:  # noqa: ARG001 - no parameters
    """List dead letters.

    Grouped by holding source, category, original source and stage. To send a group back, resubmit its
    `selection` to the topic `{origin}` with the option `restore`.
    """
    found = _waited_for(callers_causes)
    kinds = [
        asdict(cause)
        | {"oldest": iso(cause.oldest), "newest": iso(cause.newest), "selection": selection_for(cause)}
        for cause in found.found
    ]
    return {"kinds": kinds, "messages": found.messages, "complete": found.complete}


def callers_sources(patience: float = 2.0) -> list[SourceFacts] | None:
    """The sources the caller may read; None if counting takes longer than ``patience`` seconds."""
    with needs("The index"):
        found = parts().overview.sources(patience)
    return found and [facts for facts in found if who().may_read(facts.source)]


def callers_causes(patience: float = 2.0) -> Causes | None:
    """Dead letters the caller may read; behaves like :func:`callers_sources`."""
    with needs("The index"):
        found = parts().overview.causes(patience)
    return found and replace(found, found=tuple(c for c in found.found if who().may_read(c.held_in)))


def _waited_for(ask: Callable[[float], _T | None]) -> _T:
    found = ask(_PATIENCE)
    if found is None:
        raise AwayError("The messages are still being counted for the first time; try again later.")
    return found


def _source(facts: SourceFacts) -> dict[str, Any]:
    figures = asdict(facts) | {"oldest": iso(facts.oldest), "newest": iso(facts.newest)}
    return figures | {"dead_letters": figures.pop("dead"), "waiting_seconds": figures.pop("waiting")}
