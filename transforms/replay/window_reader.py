"""Reads the windows of a plan from the lake and checks every row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms import registry
from transforms.entries import traits, verify
from transforms.errors import ConfigurationError, PermanentError
from transforms.lake import Lake, LakeFile, ObjectMissingError, find_lake
from transforms.marking import unmarked
from transforms.model import FILE_SCHEMA, MESSAGE_SCHEMA, Trait
from transforms.replay.pacing import NO_TIME
from transforms.replay.plans import Plan
from transforms.replay.reduction import adapt, not_carried
from transforms.replay.report import Tally
from transforms.replay.restoring import restore

__all__ = ["Checked", "Lost", "read_window"]

Rows = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_EVERYTHING = sum(Trait)


@dataclass(frozen=True)
class Lost:
    """Rows of a window that are not published, for one reason; see :class:`Failure`."""

    rows: Rows
    category: str
    reason: str


@dataclass
class Checked:
    """A window after reading.

    Attributes:
        window: its rows of the plan (``WINDOW_SCHEMA``).
        messages: messages that may be sent (``MESSAGE_SCHEMA``), in the plan's order.
        rows: the row of the window of each message.
        by_checksum: whether each message was compared by checksum.
        reduced: whether each message is sent in a reduced form.
        lost: the other rows.
    """

    window: pa.RecordBatch
    messages: pa.Table
    rows: Rows
    by_checksum: Bools
    reduced: Bools
    lost: list[Lost] = field(default_factory=list)

    def sizes(self) -> Rows:
        """Bytes of each message, according to the index."""
        sizes: Rows = self.window.column("size").to_numpy()
        return sizes[self.rows]

    def times(self) -> Rows:
        """Publish time of each message in µs, ``NO_TIME`` where there is none; according to the index."""
        times = self.window.column("publish_time").take(pa.array(self.rows)).cast(pa.int64())
        found: Rows = pc.fill_null(times, NO_TIME).to_numpy()
        return found

    def split(self, count: int) -> tuple[Checked, Checked | None]:
        """The first ``count`` messages with the rows of the window up to the next one, and the rest."""
        if count >= len(self.messages):
            return self, None
        return self._part(0, count), self._part(count, len(self.messages))

    def _part(self, first: int, last: int) -> Checked:
        start = int(self.rows[first]) if first else 0
        end = int(self.rows[last]) if last < len(self.rows) else len(self.window)
        return Checked(
            self.window.slice(start, end - start),
            self.messages.slice(first, last - first),
            self.rows[first:last] - start,
            self.by_checksum[first:last],
            self.reduced[first:last],
            list(_lost_between(self.lost, start, end)),
        )

    def lose(self, reasons: Mapping[str, str]) -> None:
        """Count messages that the destination refused, by id with the reason, as not published."""
        found = pc.is_in(self.messages["id"], value_set=pa.array(list(reasons), pa.string())).to_numpy()
        for message in np.flatnonzero(found).tolist():
            reason = reasons[self.messages["id"][message].as_py()]
            self.lost.append(Lost(self.rows[message : message + 1], "undelivered", reason))
        kept = ~found
        self.messages, self.rows = self.messages.filter(pa.array(kept)), self.rows[kept]
        self.by_checksum, self.reduced = self.by_checksum[kept], self.reduced[kept]

    def tally(self) -> Tally:
        """The outcome if all of ``messages`` are published."""
        by_checksum = int(self.by_checksum.sum())
        tally = Tally(
            published=len(self.rows),
            verified_by_checksum=by_checksum,
            verified_by_id=len(self.rows) - by_checksum,
            reduced=int(self.reduced.sum()),
            last_publish_time_us=self._last_time(),
        )
        for lost in self.lost:
            named = (_column(self.window, name, lost.rows).to_pylist() for name in ("id", "location"))
            tally.fail(lost.category, lost.reason, zip(*named, strict=True))
        self._count_sources(tally)
        return tally

    def failed(self) -> pa.Table | None:
        """The rows that are not published (``FAILED_SCHEMA``), or None."""
        parts = [
            pa.Table.from_batches([self.window.take(pa.array(lost.rows))])
            .append_column("category", pa.repeat(lost.category, len(lost.rows)))
            .append_column("reason", pa.repeat(lost.reason, len(lost.rows)))
            for lost in self.lost
            if len(lost.rows)
        ]
        if not parts:
            return None
        order = np.argsort(np.concatenate([lost.rows for lost in self.lost]), kind="stable")
        return pa.concat_tables(parts).unify_dictionaries().combine_chunks().take(pa.array(order))

    def _last_time(self) -> int | None:
        latest = pc.max(self.window.column("publish_time").take(pa.array(self.rows)))
        return latest.cast(pa.int64()).as_py()

    def _count_sources(self, tally: Tally) -> None:
        column = self.window.column("source")
        published = np.bincount(
            column.indices.to_numpy()[self.rows], minlength=len(column.dictionary)
        ).tolist()
        planned = np.bincount(column.indices.to_numpy(), minlength=len(column.dictionary)).tolist()
        for name, sent, rows in zip(column.dictionary.to_pylist(), published, planned, strict=True):
            if rows:
                tally.sources[name] = {"published": sent, "failed": rows - sent}


def _lost_between(losses: Sequence[Lost], start: int, end: int) -> Iterator[Lost]:
    for lost in losses:
        rows = lost.rows[(lost.rows >= start) & (lost.rows < end)]
        if len(rows):
            yield Lost(rows - start, lost.category, lost.reason)


def read_window(
    window: pa.RecordBatch, plan: Plan, lakes: Sequence[Lake], executor: Executor | None = None
) -> Checked:
    """Read a window's messages in order; missing or mismatching ones are lost.

    Args:
        window: ``WINDOW_SCHEMA``.
        plan: with the traits the destination carries and whether the job is lossy.
        lakes: every lake that the plan may refer to.
        executor: if given, reads several files at a time.

    Raises:
        TransientError: a lake does not answer.
    """
    lost: list[Lost] = []
    messages, rows = _read(window, lakes, lost, executor)
    verified = verify(messages, _column(window, "id", rows), _column(window, "checksum", rows))
    keep = verified.ok
    _lose(lost, rows[~keep], "mismatch", "this row of the file is not the message that was indexed")
    if plan.options.restore:
        messages, problems = restore(messages, lakes)
        for row, problem in problems.items():
            _lose(lost, rows[row : row + 1][keep[row : row + 1]], "not_restored", problem)
        keep = keep & ~np.isin(np.arange(len(keep)), list(problems))
    if not plan.options.lossy and plan.carries != _EVERYTHING:
        lacking = keep & not_carried(traits(messages), plan.carries)
        _lose(lost, rows[lacking], "cannot_carry", "needs more than the destination carries")
        keep = keep & ~lacking
    messages, rows = messages.filter(pa.array(keep)), rows[keep]
    by_checksum = verified.by_checksum[keep]
    if not by_checksum.all():  # Ids of other products lack the source; ids of the index are unique.
        messages = messages.set_column(0, MESSAGE_SCHEMA.field("id"), _column(window, "id", rows))
    messages, reduced = _reduced(messages.select(MESSAGE_SCHEMA.names), plan)
    messages = unmarked(messages) if plan.options.mark else messages
    return Checked(window, messages, rows, by_checksum, reduced, lost)


def _reduced(messages: pa.Table, plan: Plan) -> tuple[pa.Table, Bools]:
    if not plan.options.lossy or plan.carries == _EVERYTHING:
        return messages, np.zeros(len(messages), np.bool_)
    reduced = not_carried(traits(messages), plan.carries)
    return adapt(messages, plan.carries) if reduced.any() else messages, reduced


def _column(window: pa.RecordBatch, name: str, rows: Rows) -> pa.Array:
    values = window.column(name)
    taken = values if len(rows) == len(window) else values.take(pa.array(rows))
    return taken.dictionary_decode() if pa.types.is_dictionary(taken.type) else taken


def _lose(lost: list[Lost], rows: Rows, category: str, reason: str) -> None:
    if len(rows):
        lost.append(Lost(rows, category, reason))


@dataclass
class _Found:
    """The result of one file: ``table`` for ``rows`` of the window; the rest failed."""

    rows: Rows
    table: pa.Table
    failed: Rows
    category: str = ""
    reason: str = ""


def _read(
    window: pa.RecordBatch, lakes: Sequence[Lake], lost: list[Lost], executor: Executor | None
) -> tuple[pa.Table, Rows]:
    """The rows that could be read, in order, with their numbers in the window."""
    positions = window.column("position").to_numpy()
    work = list(_by_file(window))
    mapped = executor.map if executor and len(work) > 1 else map
    found = list(mapped(lambda file: _read_file(lakes, file[0], file[1], positions[file[1]]), work))
    for part in found:
        _lose(lost, part.failed, part.category, part.reason)
    rows = np.concatenate([part.rows for part in found])
    table = pa.concat_tables([part.table for part in found])
    if (np.diff(rows) > 0).all():
        return table, rows
    order = np.argsort(rows)
    return table.combine_chunks().take(pa.array(order)), rows[order]


def _by_file(window: pa.RecordBatch) -> Iterator[tuple[str, Rows]]:
    locations = window.column("location")
    codes = locations.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        yield locations.dictionary[int(codes[rows[0]])].as_py(), rows


def _read_file(lakes: Sequence[Lake], location: str, rows: Rows, positions: Rows) -> _Found:
    try:
        lake, path = find_lake(lakes, location)
    except PermanentError:
        return _nothing(rows, "outside", "the file lies outside the configured lakes")
    try:
        file = lake.open(path)
        wanted, places = np.unique(positions, return_inverse=True)
        return _Found(rows, _rows_of(file, wanted, places), rows[:0])
    except ObjectMissingError:
        return _nothing(rows, "missing", "the file is not in the lake")
    except (PermanentError, ConfigurationError):
        return _salvage(lake, path, rows, positions)


def _rows_of(file: LakeFile, wanted: Rows, places: Rows) -> pa.Table:
    if wanted[0] < 0:
        raise PermanentError("a position is negative")
    table = registry.format_of(file.path).read_rows(file, wanted)
    in_order = len(wanted) == len(places) and (np.diff(places) > 0).all()
    return table if in_order else table.combine_chunks().take(pa.array(places))


def _salvage(lake: Lake, path: str, rows: Rows, positions: Rows) -> _Found:
    """Distinguish a damaged file from a wrong position, and read the other positions."""
    try:
        table = registry.format_of(path).decode(lake.get(path))
    except (PermanentError, ConfigurationError) as error:
        return _nothing(rows, "damaged", f"the file cannot be read: {error}")
    there = (positions >= 0) & (positions < len(table))
    found = table.take(pa.array(positions[there]))
    return _Found(rows[there], found, rows[~there], "position", f"the file has only {len(table)} rows")


def _nothing(rows: Rows, category: str, reason: str) -> _Found:
    return _Found(rows[:0], FILE_SCHEMA.empty_table(), rows, category, reason)
