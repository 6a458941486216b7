"""Makes batches of the messages that a cut takes out of a track: ids, checksums and a name."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

from transforms import metrics
from transforms.entries import checksums, message_ids
from transforms.layout import Positions, template
from transforms.model import FILE_SCHEMA, MESSAGE_SCHEMA, Batch, DeadLetter, Layout
from transforms.reading.claims import file_stem
from transforms.reading.track import Cut, Track

__all__ = ["count_gap", "fitted", "identified", "made"]

_MOST_PATHS = 4_000
_MANY_PATHS = 100
_FEW_ROWS = 100
_MOST_GROWTH = 8


def fitted(track: Track, cut: Cut, messages: pa.Table, layout: Layout) -> tuple[Cut, list[str]] | None:
    """A cut that may be claimed, and its directories; None where the batch is to grow first.

    A batch has at most 4,000 paths: the first rows that fit. One of more than 100 paths with fewer than 100
    rows a path grows to eight times the messages of a batch, unless its bytes or its age close it.

    Args:
        messages: of the cut.
    """
    rendered = template(layout.path).render(messages, track.source, layout.naming)
    if len(rendered) > _MOST_PATHS:
        cut = cut.shortened(track.buffer, _first_row(rendered[_MOST_PATHS]))
        return cut, [directory for directory, _ in rendered[:_MOST_PATHS]]
    sparse = len(rendered) > _MANY_PATHS and cut.rows < _FEW_ROWS * len(rendered)
    if sparse and cut.reason == "count" and track.growth < _MOST_GROWTH:
        track.growth *= 2
        return None
    return cut, [directory for directory, _ in rendered]


def _first_row(group: tuple[str, Positions | None]) -> int:
    return 0 if group[1] is None else int(group[1][0])


def identified(track: Track, messages: pa.Table, incarnation: int) -> pa.Table:
    """Messages (``MESSAGE_SCHEMA``) as ``FILE_SCHEMA``, with ids and checksums."""
    ids = message_ids(track.source, incarnation, track.partition.number, messages)
    messages = messages.set_column(0, MESSAGE_SCHEMA.field("id"), ids)
    return messages.append_column(FILE_SCHEMA.field("checksum"), checksums(messages))


def made(
    track: Track,
    start: int,
    cut: Cut,
    messages: pa.Table,
    layout: Layout,
    *,
    lost: str | None,
    named: bool,
    incarnation: int,
) -> Batch | None:
    """The batch of a cut; None where nothing is to be written, as for a hole.

    Args:
        messages: of the cut, as :func:`identified` returns them.
        lost: what is lost of a range that cannot be read.
        named: whether its position names it; otherwise its content does.
    """
    elsewhere = cut.elsewhere(track.source, messages)
    if not cut.rows and not elsewhere and lost is None:
        return None
    partition = track.partition.number
    if named and partition is not None:
        name = file_stem(track.source, track.incarnation, partition, start)
    else:
        name = f"{track.source}-{_digest(messages['id'])}"
    metrics.BATCHES.labels(metrics.label(track.source), cut.reason).inc()
    return Batch(
        track.source,
        track.incarnation,
        partition,
        messages,
        name,
        layout,
        cut.reason,
        elsewhere,
        cut.claim.rows if cut.claim else 0,
        lost=_lost(track, start, lost, incarnation) if lost else None,
    )


def count_gap(track: Track, cut: Cut) -> None:
    """Count the positions that are lost; where a topic begins late, none is."""
    late = cut.reason == "gap" and not cut.rows and track.unclaimed > 0
    if late or cut.reason == "skip":
        metrics.GAPS.labels(metrics.label(track.source)).inc(cut.next - track.unclaimed)


def _lost(track: Track, start: int, why: str, incarnation: int) -> DeadLetter:
    """A letter without data that stands for what nobody can read."""
    partition = track.partition
    place: dict[str, Any] = {
        "topic": partition.topic,
        "partition": partition.number,
        "offset": start,
        "headers": [],
    }
    row = pa.Table.from_pylist([place], schema=MESSAGE_SCHEMA)
    return DeadLetter(track.source, "read", "lost", why, identified(track, row, incarnation))


def _digest(ids: pa.ChunkedArray) -> str:
    """Name a batch of messages without positions, so that only an identical retry has the same name."""
    return hashlib.sha256("\n".join(sorted(ids.to_pylist())).encode()).hexdigest()[:32]
