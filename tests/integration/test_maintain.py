"""Maintenance on real servers: reading goes on from wherever it had come to, and no crash spoils anything."""

# ruff: noqa: F811

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests._reading import ids, reading, values
from tests.integration.test_expire_reading import _archived, source, topic  # noqa: F401
from tests.servers.kafka import Kafka
from tests.servers.seaweed import Seaweed
from tests.unit.test_maintain import check_kills_of_maintain, folded
from transforms import metrics
from transforms.lake import Lake
from transforms.maintenance.maintain import maintain
from transforms.reading.claims import Chain, Claims
from transforms.reading.source import Source

_AT_ONCE = timedelta(0)


@pytest.mark.parametrize("saved", [None, 10])
def test_reading_goes_on_from_wherever_it_had_come_to(
    kafka: Kafka,
    topic: str,
    source: Source,
    saved: int | None,
) -> None:
    """Without the group's offsets, and from a position that was saved before what lies there was folded."""
    _archived(kafka, topic, source)
    lake = Lake(source.lake or "")
    assert maintain(lake, _AT_ONCE).claims == 3
    kafka.delete_group(source.group)
    gaps = metrics.GAPS.labels(metrics.label(topic))._value.get()
    with reading(source) as read:
        if saved is not None:
            read.positions = {f"{topic}~1/0": saved}
        read.until(10)
        kafka.produce(topic, values(40, 45))
        read.until(15)
    assert read.ids == ids(topic, 30, 45)
    assert sorted(Claims(lake).ahead(Chain(topic, 1, 0), 0)) == [30, 40]
    assert [entry.start for entry in folded(lake, topic)] == [0, 10, 20]
    assert metrics.GAPS.labels(metrics.label(topic))._value.get() == gaps


def test_kills_between_steps_on_an_object_store_lose_and_double_nothing(
    seaweed: Seaweed,
    topic: str,
    tmp_path: Path,
) -> None:
    check_kills_of_maintain(Lake(f"{seaweed.create_bucket(topic)}/lake", seaweed.config))
