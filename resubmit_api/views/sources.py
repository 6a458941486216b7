"""The figures of the first page, and dead letters by their cause."""

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

__all__ = ["blueprint", "callers_causes", "callers_sources"]

_T = TypeVar("_T")
_PATIENCE = 20.0
"""Seconds that a request of the API waits where a page would say that it still counts."""

blueprint = APIBlueprint("sources", __name__, url_prefix="/v1", tag="Sources")


@blueprint.get("/sources")
@open_to(Role.VIEWER)
@blueprint.input(NoQuery, location="query")
@blueprint.output(SourceList)
@blueprint.doc(operation_id="listSources", responses=problems(400, 422, 503))
def index(query_data: NoQuery) -> dict[str, Any]:  # noqa: ARG001 - there are none
    """List sources.

    What is archived of each, how fast it comes in, and how far behind it is. The figures are some
    seconds old, with very many messages some minutes.
    """
    found = _waited_for(callers_sources)
    return {"sources": list(map(_source, found)), "silent": parts().overview.live().silent}


@blueprint.get("/dead-letters")
@open_to(Role.VIEWER)
@blueprint.input(NoQuery, location="query")
@blueprint.output(DeadLetters)
@blueprint.doc(operation_id="listDeadLetters", responses=problems(400, 422, 503))
def dead_letters(query_data: NoQuery) -> dict[str, Any]:  # noqa: ARG001 - there are none
    """List dead letters.

    By where they are held, category, source and stage. To send those of a kind back, resubmit its
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
    """The sources that are open to the caller; None where ``patience`` seconds do not suffice to count."""
    with needs("The index"):
        found = parts().overview.sources(patience)
    return found and [facts for facts in found if who().may_read(facts.source)]


def callers_causes(patience: float = 2.0) -> Causes | None:
    """Dead letters that are open to the caller; as for :func:`callers_sources`."""
    with needs("The index"):
        found = parts().overview.causes(patience)
    return found and replace(found, found=tuple(c for c in found.found if who().may_read(c.held_in)))


def _waited_for(ask: Callable[[float], _T | None]) -> _T:
    found = ask(_PATIENCE)
    if found is None:
        raise AwayError("The messages are still being counted for the first time; ask again later.")
    return found


def _source(facts: SourceFacts) -> dict[str, Any]:
    told = asdict(facts) | {"oldest": iso(facts.oldest), "newest": iso(facts.newest)}
    return told | {"dead_letters": told.pop("dead"), "waiting_seconds": told.pop("waiting")}
