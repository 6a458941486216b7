"""What a selection takes of an index: with a limit, the oldest messages of all partitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from transforms.indexes import Index
from transforms.selection import Selection, sample_and_limit
from transforms.times import moment

__all__ = ["selected"]

_PAGE = 20_000
_LAST_US = 253_402_300_799_000_000
"""The end of the calendar, which a selection's times do not exceed."""
_Place = tuple["int | None", str]


def selected(index: Index, selection: Selection, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Stream a selection in replay order, with ``sample`` and ``limit`` applied.

    The limit takes the messages that a search shows first: by publish time, then by id. What is indexed
    meanwhile never makes them more.

    Args:
        index: where the messages are found.
        selection: which messages.
        columns: of the tables; ``id`` and ``publish_time`` are among them.

    Raises:
        TransientError: the index does not answer.
    """
    last = None if selection.limit is None else _last(index, selection)
    if last is None:
        yield from sample_and_limit(index.select(selection, list(columns)), selection)
        return
    found = index.select(_until(index, selection, last), list(columns))
    yield from sample_and_limit((table.filter(_not_behind(table, last)) for table in found), selection)


def _last(index: Index, selection: Selection) -> _Place | None:
    """The place of the last message within the limit; None if the limit leaves out nothing."""
    left, after = selection.limit or 0, None
    sampled = selection.model_copy(update={"limit": None})
    while True:
        page = index.search(selection, min(_PAGE, left) if selection.sample is None else _PAGE, after)
        if not len(page):
            return None
        taken = pa.concat_tables([page.slice(0, 0), *sample_and_limit([page], sampled)])
        if len(taken) >= left:
            return _place(taken, left - 1)
        left, after = left - len(taken), _place(page, len(page) - 1)


def _place(page: pa.Table, row: int) -> _Place:
    time = page["publish_time"][row].cast(pa.int64()).as_py()
    return time, page["id"][row].as_py()


def _until(index: Index, selection: Selection, last: _Place) -> Selection:
    """Narrowed, so that the index reads no more than it must; but times would leave out what has none."""
    time = last[0]
    first = index.search(selection, 1)["publish_time"]
    if time is None or time >= _LAST_US or first.null_count:
        return selection
    return selection.model_copy(update={"published_to": moment(time + 1)})


def _not_behind(table: pa.Table, last: _Place) -> pa.ChunkedArray:
    time, id = last
    times, ids = table["publish_time"].cast(pa.int64()), pc.less_equal(table["id"], id)
    if time is None:
        return pc.and_(pc.is_null(times), ids)
    earlier = pc.or_(pc.less(times, time), pc.and_(pc.equal(times, time), ids))
    return pc.fill_null(earlier, fill_value=True)
