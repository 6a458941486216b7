"""Reading the windows of a plan from the lake and checking every row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms import registry
from transforms.entries import traits, verify
from transforms.errors import ConfigurationError, PermanentError
from transforms.lake import Lake, LakeFile, ObjectMissingError, find_lake
from transforms.model import FILE_SCHEMA, MESSAGE_SCHEMA, Trait
from transforms.replay.outcome import Tally
from transforms.replay.plans import Plan
from transforms.replay.preflight import adapt, not_carried

__all__ = ["Checked", "read_window"]

Rows = npt.NDArray[np.int64]
_EVERYTHING = sum(Trait)


@dataclass
class Checked:
    """A window, read.

    Attributes:
        rows: rows of the plan that it stands for.
        messages: what may be sent (``MESSAGE_SCHEMA``), in the plan's order.
        locations: the file of each message.
        by_checksum: whether each message was compared by checksum.
        tally: the window's outcome if all of ``messages`` are published.
    """

    rows: int
    messages: pa.Table
    locations: pa.Array
    by_checksum: npt.NDArray[np.bool_]
    tally: Tally = field(default_factory=Tally)


def read_window(
    window: pa.RecordBatch, plan: Plan, lakes: Sequence[Lake], executor: Executor | None = None
) -> Checked:
    """Read a window's messages in its order; what cannot be had or does not match is a failure.

    Args:
        window: ``WINDOW_SCHEMA``.
        plan: says what the destination carries and whether the job is lossy.
        lakes: every lake that the plan may point into.
        executor: reads several files at a time where it is given.

    Raises:
        TransientError: a lake is away.
    """
    tally = Tally()
    messages, rows = _read(window, lakes, tally, executor)
    verified = verify(messages, _column(window, "id", rows), _column(window, "checksum", rows))
    keep = verified.ok
    _fail(tally, window, rows[~keep], "mismatch", "this row of the file is not the message that was indexed")
    if not plan.options.lossy and plan.carries != _EVERYTHING:
        lacking = keep & not_carried(traits(messages), plan.carries)
        _fail(tally, window, rows[lacking], "cannot_carry", "needs more than the destination carries")
        keep = keep & ~lacking
    messages, rows = messages.filter(pa.array(keep)), rows[keep]
    by_checksum = verified.by_checksum[keep]
    if not by_checksum.all():  # Other products' ids lack the source; those of the index are unique.
        messages = messages.set_column(0, MESSAGE_SCHEMA.field("id"), _column(window, "id", rows))
    tally.published, tally.verified_by_checksum = len(rows), int(by_checksum.sum())
    tally.verified_by_id = len(rows) - tally.verified_by_checksum
    messages = _reduced(messages.select(MESSAGE_SCHEMA.names), plan, tally)
    return Checked(len(window), messages, _column(window, "location", rows), by_checksum, tally)


def _reduced(messages: pa.Table, plan: Plan, tally: Tally) -> pa.Table:
    if not plan.options.lossy or plan.carries == _EVERYTHING:
        return messages
    tally.reduced = int(not_carried(traits(messages), plan.carries).sum())
    return adapt(messages, plan.carries) if tally.reduced else messages


def _column(window: pa.RecordBatch, name: str, rows: Rows) -> pa.Array:
    values = window.column(name)
    taken = values if len(rows) == len(window) else values.take(pa.array(rows))
    return taken.dictionary_decode() if pa.types.is_dictionary(taken.type) else taken


def _fail(tally: Tally, window: pa.RecordBatch, rows: Rows, category: str, reason: str) -> None:
    if len(rows):
        named = (_column(window, name, rows).to_pylist() for name in ("id", "location"))
        tally.fail(category, reason, zip(*named, strict=True))


@dataclass
class _Found:
    """What one file gave: ``table`` for ``rows`` of the window; the rest failed."""

    rows: Rows
    table: pa.Table
    failed: Rows
    category: str = ""
    reason: str = ""


def _read(
    window: pa.RecordBatch, lakes: Sequence[Lake], tally: Tally, executor: Executor | None
) -> tuple[pa.Table, Rows]:
    """The rows that could be read, in order, with their numbers in the window."""
    positions = window.column("position").to_numpy()
    work = list(_by_file(window))
    mapped = executor.map if executor and len(work) > 1 else map
    found = list(mapped(lambda file: _read_file(lakes, file[0], file[1], positions[file[1]]), work))
    for part in found:
        _fail(tally, window, part.failed, part.category, part.reason)
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
    """Tell a damaged file from a wrong position, and read the other positions."""
    try:
        table = registry.format_of(path).decode(lake.get(path))
    except (PermanentError, ConfigurationError) as error:
        return _nothing(rows, "damaged", f"the file cannot be read: {error}")
    there = (positions >= 0) & (positions < len(table))
    found = table.take(pa.array(positions[there]))
    return _Found(rows[there], found, rows[~there], "position", f"the file has only {len(table)} rows")


def _nothing(rows: Rows, category: str, reason: str) -> _Found:
    return _Found(rows[:0], FILE_SCHEMA.empty_table(), rows, category, reason)
