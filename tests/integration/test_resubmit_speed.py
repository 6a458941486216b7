"""Messages that are sent again with the spacing that they were published with."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pipelines import resubmit
from tests._archive import archive
from tests._messages import row, table
from tests._replay import consumed, freeze, settings
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from transforms.brokers import kafka as broker
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.replay import Options, Plan
from transforms.replay.control import Wish, write_control
from transforms.replay.ledger import total
from transforms.replay.plans import lane_url
from transforms.replay.turns import replay_lanes

START = 1_780_000_000_000_000
SPAN = 60_000_000
TIMES = 10
ACCURACY = 0.5
"""Seconds, also on a busy machine; it is some hundredths where nothing else runs."""
PAUSE = 1.5
Seconds = npt.NDArray[np.float64]


def fill(lake: Lake, index: Index, partitions: int = 3, each: int = 100) -> None:
    """Messages that say in their data when they were published, in µs after the start."""
    chance = random.Random(5)
    for number in range(partitions):
        times = [0, *sorted(chance.randrange(SPAN) for _ in range(each - 2)), SPAN]
        made = [
            row(partition=number, offset=n, data=b"%d" % time, publish_time=START + time)
            for n, time in enumerate(times)
        ]
        archive(lake, index, table(*made))


def arrivals(kafka: Kafka, topic: str) -> tuple[Seconds, Seconds]:
    """When each message was published at first, and when it came now, by the broker's clock, in seconds."""
    found: list[tuple[Any, ...]] = consumed(kafka, topic, 3)
    published = np.array([int(message[2]) for message in found]) / 1e6
    came = np.array([message[4] for message in found]) / 1e3
    order = np.argsort(published, kind="stable")
    return published[order], came[order] - came.min()


def send(plan: Plan, lake: Lake) -> int:
    reports = replay_lanes(
        plan,
        list(plan.lanes),
        [lake],
        lambda lane: broker.open_publisher(lane_url(plan, lane), {}, name=f"{plan.job}-{lane}"),
    )
    return sum(report.published for report in reports)


def by_the_broker(kafka: Kafka, name: str) -> str:
    return kafka.create_topic(name, 3, **{"message.timestamp.type": "LogAppendTime"})


def test_messages_come_with_their_spacing_ten_times_as_fast(
    kafka: Kafka, lake: Lake, index: Index, tmp_path: Path
) -> None:
    topic = by_the_broker(kafka, "spaced")
    fill(lake, index)
    options = Options(timestamp="now", speed="10x")
    report = resubmit.run(settings(tmp_path, f"{kafka.url}/{topic}", options=options))
    assert (report.published, report.exit_code) == (300, 0)
    published, came = arrivals(kafka, topic)
    assert np.abs(came - published / TIMES).max() < ACCURACY


def test_lanes_keep_the_spacing_through_a_pause(
    kafka: Kafka, lake: Lake, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.replay.planning.COMMIT_MESSAGES", 50)
    topic = by_the_broker(kafka, "spaced-paused")
    fill(lake, index)
    plan = freeze(lake, index, f"{kafka.url}/{topic}", timestamp="now", speed="10x")
    assert len(plan.lanes) > 1
    counts: list[int] = []
    worker = threading.Thread(target=lambda: counts.append(send(plan, lake)))
    worker.start()
    wait_until(lambda: total(lake, plan).done > 60, 60, "some to be sent")
    write_control(lake, plan.job, Wish("pause"), 1)
    worker.join(30)
    [first] = counts
    assert 0 < first < 300
    paused = time.monotonic()
    wait_until(lambda: time.monotonic() > paused + PAUSE, 60, "the pause to pass")
    write_control(lake, plan.job, Wish(), 2)
    assert first + send(plan, lake) == 300
    published, came = arrivals(kafka, topic)
    assert len(came) == 300
    late = came - published / TIMES
    assert np.abs(late[published < published[30]]).max() < ACCURACY
    behind = late[published > (SPAN / 1e6 - 10)]
    assert behind.min() > PAUSE  # it is not made up for
    assert behind.max() - behind.min() < ACCURACY


def test_a_limit_below_the_speed_delays_and_is_not_made_up_for(
    kafka: Kafka, lake: Lake, index: Index
) -> None:
    topic = by_the_broker(kafka, "spaced-slowly")
    fill(lake, index)
    plan = freeze(lake, index, f"{kafka.url}/{topic}", timestamp="now", speed="10x")
    write_control(lake, plan.job, Wish(messages_per_second=20), 1)
    worker = threading.Thread(target=lambda: send(plan, lake))
    worker.start()
    wait_until(lambda: total(lake, plan).done > 60, 60, "some to be sent")
    write_control(lake, plan.job, Wish(), 2)
    worker.join(60)
    published, came = arrivals(kafka, topic)
    late = came - published / TIMES
    assert late[-1] > 1.0
    behind = late[published > SPAN / 1e6 - 10]
    assert behind.max() - behind.min() < ACCURACY
