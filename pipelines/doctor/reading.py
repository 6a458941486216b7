"""Whether the partitions of a source can be read where the job would go on, and what to give up where not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from pipelines.doctor.findings import Finding
from transforms.brokers import LogRewrittenError, OffsetGapError, Partition, Reader, Unreadable
from transforms.errors import ConfigurationError, TransientError

__all__ = ["examine_reading"]

_SECONDS = 5.0
_PROBE = 3.0
_MOST = 1000


def examine_reading(reader: Reader, partitions: Sequence[Partition]) -> Iterator[Finding]:
    """Read a little of each of 1,000 partitions; one finding for each that cannot be read.

    Nothing is acknowledged, and nothing read where that would leave something behind at the broker.

    Raises:
        TransientError: the broker does not answer.
    """
    if not reader.reads_freely:
        return
    positions = _positions(reader, partitions[:_MOST])
    failed = _tried(reader, positions, _SECONDS)
    for one, end in failed.values():
        where = f"{one.partition.topic} partition {one.partition.number}"
        said = f"{where} cannot be read from offset {one.position} on: {one.reason} ({one.code})."
        yield Finding("reading", "wrong", said, _remedy(reader, one, end))
    if not failed:
        yield Finding("reading", "fine", "What comes next can be read in each partition.")


def _positions(reader: Reader, partitions: Sequence[Partition]) -> dict[Partition, int]:
    try:
        committed = reader.committed(partitions)
    except (ConfigurationError, TransientError):  # another finding says so
        committed = {}
    first = reader.earliest([one for one in partitions if one not in committed])
    return {**first, **{one: position for one, (position, _) in committed.items()}}


def _remedy(reader: Reader, one: Unreadable, end: int) -> str:
    first = _first_readable(reader, one, end)
    place = f"{one.partition.topic}/{one.partition.number}/{one.position}-{first - 1}"
    return f"docs/runbooks.md, PersistorPartitionUnreadable; where nothing helps, --skip {place} gives it up."


def _first_readable(reader: Reader, one: Unreadable, end: int) -> int:
    """The first offset behind what cannot be read: twice as far each time, then halving what is left."""
    bad, step = one.position, 1
    while bad + step < end and not _can_read(reader, one.partition, bad + step):
        bad, step = bad + step, step * 2
    good = min(bad + step, end)
    while good - bad > 1:
        middle = (bad + good) // 2
        if _can_read(reader, one.partition, middle):
            good = middle
        else:
            bad = middle
    return good


def _can_read(reader: Reader, partition: Partition, position: int) -> bool:
    return not _tried(reader, {partition: position}, _PROBE)


def _tried(
    reader: Reader, positions: Mapping[Partition, int], seconds: float
) -> dict[Partition, tuple[Unreadable, int]]:
    """Which of these give an error before they give a message or their end, and where they end."""
    reader.assign(positions)
    waiting, deadline = set(positions), time.monotonic() + seconds
    failed: dict[Partition, tuple[Unreadable, int]] = {}
    while waiting and time.monotonic() < deadline:
        try:
            waiting -= {one.partition for one in reader.poll(0.2)}
        except (OffsetGapError, LogRewrittenError) as error:
            waiting -= set(getattr(error, "gaps", None) or getattr(error, "reasons", {}))
        lags = reader.lag()
        for one in reader.unreadable():
            failed[one.partition] = one, one.position + lags.get(one.partition, 1)
        waiting -= failed.keys() | {one for one in waiting if lags.get(one) == 0}
    reader.assign({})
    return failed
