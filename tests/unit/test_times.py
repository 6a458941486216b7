"""Times beyond Python's calendar."""

from __future__ import annotations

import pyarrow as pa
import pytest

from resubmit_api.pages.charts import draw, grid
from transforms.times import moment, within_calendar

LATEST, EARLIEST = (1 << 63) - 1, -(1 << 63)


@pytest.mark.parametrize(
    ("microseconds", "shown"),
    [
        (0, "1970-01-01T00:00:00+00:00"),
        (-1, "1969-12-31T23:59:59.999999+00:00"),
        (LATEST, "9999-12-31T23:59:59.999999+00:00"),
        (EARLIEST, "0001-01-01T00:00:00+00:00"),
    ],
)
def test_a_time_beyond_the_calendar_is_its_end(microseconds: int, shown: str) -> None:
    assert moment(microseconds).isoformat() == shown


def test_only_times_of_a_table_change_and_nulls_stay() -> None:
    times = pa.array([LATEST, None, 5, EARLIEST], pa.timestamp("us", tz="UTC"))
    table = pa.table({"n": pa.array([LATEST, None, 5, EARLIEST]), "time": times})
    bounded = within_calendar(table)
    assert bounded.schema == table.schema
    assert bounded["n"] == table["n"]
    assert bounded["time"].to_pylist() == [moment(LATEST), None, moment(5), moment(EARLIEST)]


def test_a_chart_ends_where_the_calendar_does() -> None:
    start, width = grid(moment(LATEST), moment(LATEST))
    far = (LATEST - start) // width
    chart = draw({0: 1, far: 2}, start, width)
    assert len(chart.bars) == 100
    assert sum(bar.count for bar in chart.bars) == 3
