"""A resubmission whose workers are killed at random: nothing is lost, nothing repeats that must not."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from tests._archive import archive
from tests._brokers import KafkaSite, NatsSite, fetch, installed, reading, together
from tests._messages import row, table
from tests._replay import consumed, expected, freeze, numbered
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from transforms.brokers import Partition
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.replay import Plan
from transforms.replay.control import Wish, write_control
from transforms.replay.ledger import Ledger, total


@pytest.fixture(scope="module")
def kafka() -> Iterator[Kafka]:
    with installed("kafka") as site:
        assert isinstance(site, KafkaSite)
        yield site.server


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsSite]:
    with installed("nats") as site:
        assert isinstance(site, NatsSite)
        yield site


@pytest.fixture
def moments() -> random.Random:
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(2**32))
    print(f"the random moments of this test come from the seed {seed}; SEED={seed} has them again")
    return random.Random(seed)


def worker(lake: Lake, plan: Plan) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tests.lane_worker", lake.url, plan.job]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def strike(
    times: int,
    moments: random.Random,
    lake: Lake,
    plan: Plan,
    between: Callable[[], object] = lambda: None,
) -> list[dict[str, Any]]:
    """Kill workers, each some time after the job has got further; the reports of the one that may end."""
    share = plan.messages // (times + 1)
    for number in range(1, times + 1):
        least = moments.randrange((number - 1) * share, number * share)
        process = worker(lake, plan)
        wait_until(lambda: total(lake, plan).done > least, 60, "the job to get on", pause=0.01)  # noqa: B023
        time.sleep(moments.uniform(0, 0.2))
        assert process.poll() is None, "it ended before it was killed"
        process.kill()
        process.communicate()
        between()
    write_control(lake, plan.job, Wish(), 2)
    output, _ = worker(lake, plan).communicate(timeout=120)
    return [json.loads(line) for line in output.splitlines()]


def slowly(lake: Lake, plan: Plan) -> Plan:
    """So slow that the kills, each some time after a commit, hit all parts of the job."""
    write_control(lake, plan.job, Wish(messages_per_second=plan.messages / 6), 1)
    return plan


def test_ten_kills_leave_every_message_once_and_in_order_on_kafka(
    kafka: Kafka, lake: Lake, index: Index, moments: random.Random
) -> None:
    topic = kafka.create_topic("killed-often", 4)
    parts = [numbered(50_000, partition) for partition in range(4)]
    for part in parts:
        archive(lake, index, part, rows_per_file=7_000)
    plan = slowly(lake, freeze(lake, index, f"{kafka.url}/{topic}"))
    reports = strike(10, moments, lake, plan)
    assert [(r["exit_code"], r["may_repeat"], r["failed"]) for r in reports] == [(0, 0, {})] * len(plan.lanes)
    assert sum(r["published"] + r["already_published"] for r in reports) == 200_000
    assert consumed(kafka, topic, 4) == list(itertools.chain.from_iterable(map(expected, parts)))


def test_where_kafka_has_forgotten_the_progress_no_more_repeats_than_the_report_says(
    kafka: Kafka, lake: Lake, index: Index, moments: random.Random
) -> None:
    topic = kafka.create_topic("forgotten", 2)
    parts = [numbered(60_000, partition) for partition in range(2)]
    for part in parts:
        archive(lake, index, part, rows_per_file=7_000)
    plan = slowly(lake, freeze(lake, index, f"{kafka.url}/{topic}"))
    admin = kafka.admin()

    def forget() -> None:
        # A lane that knows of no commit cannot tell that one was forgotten.
        begun = [lane for lane in plan.lanes if Ledger(lake, plan, lane).read()[0].done]
        groups = [f"persistor-resubmission-{plan.job}-{lane}" for lane in begun]
        for deleted in admin.delete_consumer_groups(groups).values():
            deleted.exception(30)  # those that are done have deleted it

    reports = strike(3, moments, lake, plan, forget)
    assert [(r["exit_code"], r["failed"]) for r in reports] == [(0, {})] * len(plan.lanes)
    found, repeats = consumed(kafka, topic, 2), 0
    for part in parts:
        wanted = expected(part)
        counts = Counter(message[2] for message in found if message[0] == wanted[0][0])
        first = list(dict.fromkeys(message[2] for message in found if message[0] == wanted[0][0]))
        assert first == [message[2] for message in wanted]
        repeats += counts.total() - len(counts)
    assert repeats <= sum(r["may_repeat"] for r in reports)


def test_ten_kills_leave_every_message_once_and_in_order_on_nats(
    nats: NatsSite, lake: Lake, index: Index, moments: random.Random
) -> None:
    name = f"k{uuid.uuid4().hex[:10]}"
    nats.do(lambda js: js.add_stream(name=name, subjects=[f"{name}.>"], duplicate_window=600))
    messages: pa.Table = table(*[row(offset=n, data=b"%d" % n) for n in range(60_000)])
    archive(lake, index, messages, rows_per_file=7_000)
    plan = slowly(lake, freeze(lake, index, f"{nats.server.url}/{name}.copy"))
    [report] = strike(10, moments, lake, plan)
    assert (report["exit_code"], report["failed"]) == (0, {})
    with reading(nats.reader(f"{name}.copy"), {Partition(f"{name}.copy", 0): 1}) as reader:
        arrived = together(fetch(reader, 60_000))
        assert arrived["data"].to_pylist() == messages["data"].to_pylist()
        assert reader.poll(0.5) == []
