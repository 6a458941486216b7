"""Draws a histogram over time as shapes, so that the page needs no script and no style."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from transforms.times import microseconds, moment

__all__ = ["HEIGHT", "WIDTH", "Bar", "Chart", "draw", "grid"]

WIDTH, HEIGHT = 1200, 120
_MOST_BARS = 60
_MOST_DRAWN = 100
"""Equal to the buckets of a plan's histogram."""
_SECOND = 1_000_000
_WIDTHS = (
    *(factor * 10**power for power in range(6) for factor in (1, 2, 5)),
    *(seconds * _SECOND for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)),
    *(hours * 3600 * _SECOND for hours in (2, 3, 6, 12, 24, 48, 168, 336, 720, 2160, 8760)),
)


@dataclass(frozen=True)
class Bar:
    """A bucket: its times (``end`` is exclusive), its count and the position of its bar."""

    start: datetime
    end: datetime
    count: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Chart:
    """Bars from left to right; ``ticks`` are (x, text) pairs of the axis, ``peak`` is the highest count."""

    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    peak: int
    bucket: timedelta


def grid(oldest: datetime, newest: datetime) -> tuple[int, int]:
    """Start and width, in µs, of at most sixty buckets of a round width from ``oldest`` to ``newest``."""
    first, last = microseconds(oldest), microseconds(newest)
    for width in _WIDTHS:
        start = first // width * width
        if (last - start) // width < _MOST_BARS:
            return start, width
    width = math.ceil((last - first + 1) / (_MOST_BARS - 1))
    return first, width


def draw(counts: Mapping[int, int], start: int, width: int) -> Chart:
    """Draw the buckets of :func:`grid`; an empty bucket has height 0."""
    counts = _within(counts)
    last = max(counts, default=0)
    peak = max(counts.values(), default=0)
    step = WIDTH / (last + 1)
    frame = _Frame(start, width, peak, step)
    bars = [_bar(frame, number, counts.get(number, 0)) for number in range(last + 1)]
    return Chart(tuple(bars), _ticks(bars), peak, timedelta(microseconds=width))


def _within(counts: Mapping[int, int]) -> Mapping[int, int]:
    """Limit times to the end of the calendar, where the grid ends too."""
    held: Counter[int] = Counter()
    for number, count in counts.items():
        held[min(max(number, 0), _MOST_DRAWN - 1)] += count
    return held


class _Frame(NamedTuple):
    start: int
    width: int
    peak: int
    step: float


def _bar(frame: _Frame, number: int, count: int) -> Bar:
    begin = frame.start + number * frame.width
    # Any count must be visible, however small beside the rest.
    height = max(round(count / frame.peak * HEIGHT, 1), 2.0) if count else 0.0
    gap = min(2.0, frame.step / 5)
    return Bar(
        start=moment(begin),
        end=moment(begin + frame.width),
        count=count,
        x=round(number * frame.step, 2),
        y=round(HEIGHT - height, 1),
        width=round(frame.step - gap, 2),
        height=height,
    )


def _ticks(bars: list[Bar]) -> tuple[tuple[float, str], ...]:
    every = max(1, math.ceil(len(bars) / 6))
    chosen = bars[::every]
    days = len({bar.start.date() for bar in bars}) > 1
    fine = bars[0].end - bars[0].start < timedelta(minutes=1)
    form = "%m-%d %H:%M" if days else "%H:%M:%S" if fine else "%H:%M"
    return tuple((bar.x, f"{bar.start:{form}}") for bar in chosen)
