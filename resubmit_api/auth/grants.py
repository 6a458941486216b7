"""Which sources a caller may read, where it may send to, and which resubmissions it may see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from resubmit_api.asking import in_budget, searching
from resubmit_api.auth import caller, denied
from resubmit_api.auth.tokens import Caller
from resubmit_api.schemas import ReplayRequest
from transforms.errors import ConfigurationError
from transforms.indexes import Index, SourceSummary
from transforms.model import ENTRY_SCHEMA
from transforms.selection import MAX_SOURCES, Selection

__all__ = ["CallersIndex", "check_destination", "granted", "may_control", "may_see", "who"]

_NO_SOURCE = "\0"
"""A name that no source has."""


def who() -> Caller:
    """The caller of this request, for views that need one."""
    found = caller()
    if found is None:
        raise denied("Nobody is logged in.")
    return found


class CallersIndex:
    """The index as one caller sees it: without sources that are not open to the caller.

    What is asked of it has the budget of the request (:mod:`resubmit_api.asking`).
    """

    def __init__(self, index: Index, caller: Caller) -> None:
        self._index, self._caller = index, caller

    def confine(self, selection: Selection) -> Selection:
        """The selection restricted to the caller's sources; 403 if it names others."""
        if self._caller.sources is None:
            return selection
        if refused := [name for name in selection.sources if not self._caller.may_read(name)]:
            raise denied(f"This token may not read the sources {', '.join(refused[:10])}.")
        sources = selection.sources or tuple(self.sources()) or (_NO_SOURCE,)
        if len(sources) > MAX_SOURCES:
            raise ConfigurationError(
                f"This token may read more than {MAX_SOURCES} sources; name the ones you need."
            )
        return selection.model_copy(update={"sources": sources, "all": False})

    def summarize(self, selection: Selection) -> list[SourceSummary]:
        """As :meth:`transforms.indexes.Index.summarize`; of whole sources by their counters."""
        confined = self.confine(selection)
        with searching(self._index, confined):
            if not _is_whole(confined):
                return self._index.summarize(confined)
            asked = {*confined.sources}
            return [found for found in self._index.totals() if not asked or found.source in asked]

    def count(self, selection: Selection, most: int) -> int:
        """As :meth:`transforms.indexes.Index.count`."""
        confined = self.confine(selection)
        with searching(self._index, confined):
            return self._index.count(confined, most)

    def select(self, selection: Selection, columns: list[str]) -> Iterator[pa.Table]:
        """As :meth:`transforms.indexes.Index.select`."""
        confined = self.confine(selection)
        found = iter(self._index.select(confined, columns))
        while True:
            with searching(self._index, confined):
                table = next(found, None)
            if table is None:
                return
            yield table

    def search(
        self, selection: Selection, limit: int, after: tuple[int | None, str] | None = None
    ) -> pa.Table:
        """As :meth:`transforms.indexes.Index.search`."""
        confined = self.confine(selection)
        with searching(self._index, confined):
            return self._index.search(confined, limit, after)

    def get(self, id: str) -> pa.Table:
        """As :meth:`transforms.indexes.Index.get`."""
        with in_budget():
            found = self._index.get(id)
        visible = not len(found) or self._caller.may_read(found["source"][0].as_py())
        return found if visible else ENTRY_SCHEMA.empty_table()

    def histogram(self, selection: Selection, start: int, width: int) -> dict[int, int]:
        """As :meth:`transforms.indexes.Index.histogram`."""
        confined = self.confine(selection)
        with searching(self._index, confined):
            return self._index.histogram(confined, start, width)

    def sources(self) -> list[str]:
        """As :meth:`transforms.indexes.Index.sources`."""
        with in_budget():
            return [source for source in self._index.sources() if self._caller.may_read(source)]

    def ping(self) -> None:
        """As :meth:`transforms.indexes.Index.ping`."""
        self._index.ping()


def _is_whole(selection: Selection) -> bool:
    narrowed = (selection.published_from, selection.published_to, selection.ids, selection.where)
    return not any(narrowed)


def granted(index: CallersIndex, request: ReplayRequest) -> ReplayRequest:
    """The request restricted to the caller's sources; 403 if it names other destinations.

    Call it before anything is looked up, stored or sent.
    """
    check_destination(request.destination, request.topic)
    return request.model_copy(update={"selection": index.confine(request.selection)})


def check_destination(name: str, topic: str) -> None:
    """Respond 403 if the caller may not send there."""
    if not who().may_send(name, topic):
        raise denied(f"This token may not send to topic {topic} of destination {name}.")


def may_see(row: Mapping[str, Any]) -> bool:
    """Whether the caller may see a resubmission: all of its sources must be open to the caller.

    Until the sources of a selection by ids are known, only who asked for it may see it.
    """
    sources = row["selection"].get("sources") or _planned(row)
    if who().sources is None:
        return True
    return all(map(who().may_read, sources)) if sources else row["requested_by"] == who().name


def _planned(row: Mapping[str, Any]) -> list[str]:
    """The planned sources of a selection by ids, such as a retry."""
    return [part["source"] for part in row["plan"]["sources"]] if row.get("plan") else []


def may_control(row: Mapping[str, Any]) -> bool:
    """Whether the caller may run, pause or cancel it: may see it and may send to its destination."""
    return may_see(row) and who().may_send(row["destination"], row["topic"])
