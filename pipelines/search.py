"""The command search: lists messages from the index, and shows what arrives."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.connections import patiently
from pipelines.settings.selecting import selected
from pipelines.settings.terminal import SearchSettings
from pipelines.terminal.messages import EntriesView
from transforms import registry
from transforms.indexes import Index
from transforms.selection import Selection
from transforms.times import microseconds

__all__ = ["arriving", "run"]

_SHOWN = 20
_PAGE = 1000
_EVERY = 1.0
_LATE = timedelta(minutes=1)


def run(settings: SearchSettings) -> int:
    """Print the first messages of a selection by publish time, or with ``follow`` those that arrive.

    Returns:
        The exit code, which is 0 also where nothing is found.

    Raises:
        TransientError: the index did not answer for a minute.
    """
    selection, view = selected(settings), EntriesView(as_json=settings.json)
    with closing(registry.index(settings.index).open(settings.index)) as index:
        if settings.follow:
            for page in arriving(index, selection):
                view.entries(page)
        else:
            limit = settings.limit or _SHOWN
            found = pa.concat_tables(_first(index, selection, limit + 1))
            view.entries(found.slice(0, limit))
            view.end(len(found), limit)
    return 0


def _first(index: Index, selection: Selection, rows: int) -> Iterator[pa.Table]:
    for page in _pages(index, selection, min(rows, _PAGE)):
        yield page.slice(0, rows)
        rows -= len(page)
        if rows <= 0:
            return


def arriving(index: Index, selection: Selection) -> Iterator[pa.Table]:
    """The messages of a selection that are indexed from now on, without end, each once.

    With ``published_from`` those since then come first. A message may be indexed later than one that was
    published after it: one that is indexed a minute late is still found.
    """
    since = selection.published_from or datetime.now(timezone.utc)
    seen = dict[str, int]()
    for turn in itertools.count():
        begin = since if turn == 0 else max(since, datetime.now(timezone.utc) - _LATE)
        seen = {id: published for id, published in seen.items() if published >= microseconds(begin)}
        recent = selection.model_copy(update={"published_from": begin, "all": False})
        for page in _pages(index, recent, _PAGE):
            new = page.filter(pc.invert(pc.is_in(page["id"], value_set=pa.array(seen, pa.string()))))
            seen |= dict(zip(new["id"].to_pylist(), _times(new), strict=True))
            yield new
        time.sleep(_EVERY)


def _pages(index: Index, selection: Selection, rows: int) -> Iterator[pa.Table]:
    """All pages of a search; the last one, which may be empty, has fewer rows than were asked for."""
    after: tuple[int | None, str] | None = None
    while True:
        page = patiently(partial(index.search, selection, rows, after), "search the index")
        yield page
        if len(page) < rows:
            return
        last = page.slice(len(page) - 1)
        after = _times(last)[0], last["id"][0].as_py()


def _times(page: pa.Table) -> list[int]:
    times: list[int] = page["publish_time"].cast(pa.int64()).to_pylist()
    return times
