"""Resubmissions whose processes are killed at random: nothing is lost, nothing repeats that must not.

They are what users run: jobs of the service, which takes them up again, and ``persistor resubmit``.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pytest

from tests._archive import archive
from tests._brokers import NatsSite, fetch, reading, together
from tests._messages import row, table
from tests._processes import spawned
from tests._replay import ORDERS, command, consumed, expected, numbered, settings
from tests.api.conftest import Client, Site
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from transforms.brokers import Partition
from transforms.errors import ConfigurationError
from transforms.indexes import Index
from transforms.job_row import Row
from transforms.lake import Lake
from transforms.replay import Plan
from transforms.replay.ledger import Ledger, total
from transforms.replay.plans import load_plan

SECONDS = 33
"""How long a job would take at its rate: each process lives for some commits, which come every 2 s."""
LIVES_ON = 1.5
"""Seconds after a commit within which a process is killed."""


@pytest.fixture
def site(tmp_path: Path, lake: Lake, index: Index) -> Site:
    return Site(tmp_path, f"sqlite://{tmp_path}/index.db", lake, index)


@pytest.fixture
def moments() -> random.Random:
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(2**32))
    print(f"the random moments of this test come from the seed {seed}; SEED={seed} has them again")
    return random.Random(seed)


def look(index: Index, id: str) -> Row:
    return index.get_job(id) or {}


def planned(lake: Lake, id: str) -> Plan:
    def stored() -> Plan | None:
        try:
            return load_plan(lake, id)
        except ConfigurationError:
            return None

    return wait_until(stored, 60, f"the plan of job {id}")


def some_way_on(lake: Lake, plan: Plan, least: int, moments: random.Random) -> None:
    """Wait until a process has committed something and more than ``least`` is done, and a moment longer."""
    before = total(lake, plan).done
    wait_until(lambda: total(lake, plan).done > max(least, before), 240, "the job to get on", pause=0.02)
    time.sleep(moments.uniform(0, LIVES_ON))


def each(times: int, messages: int, moments: random.Random) -> list[int]:
    """What is to be done at least at each kill: spread over a job, so that all its parts are hit."""
    share = messages // (times + 2)
    return [moments.randrange(number * share, (number + 1) * share) for number in range(times)]


def strike(times: int, moments: random.Random, site: Site, api: Client, topic: str) -> Row:
    """A job of the service, whose processes are killed so often; its row at its end."""
    planless = {"destination": "main", "topic": topic, "selection": {"sources": ["orders"]}}
    messages = sum(source.messages for source in site.index.summarize(ORDERS))
    rate = {"messages_per_second": messages / SECONDS}
    id = api.post("/v1/resubmissions", json={**planless, "rate": rate}).json()["id"]
    plan, process = planned(site.lake, id), None

    def another() -> int | None:
        pid = (look(site.index, id)["run"] or {}).get("pid")
        return None if pid == process else pid

    for least in each(times, messages, moments):
        process = wait_until(another, 120, "the job to be launched")
        some_way_on(site.lake, plan, least, moments)
        os.kill(process, signal.SIGKILL)
    wait_until(another, 120, "the job to be launched")
    assert look(site.index, id)["state"] == "RUNNING"
    assert api.patch(f"/v1/resubmissions/{id}", json={"rate": {}}).ok
    wait_until(lambda: look(site.index, id)["state"] != "RUNNING", 240, "the job to end")
    return look(site.index, id)


@pytest.mark.timeout(900)  # eleven starts of a job, each some seconds of a free core
def test_ten_kills_leave_every_message_once_and_in_order_on_kafka(
    kafka: Kafka, site: Site, moments: random.Random
) -> None:
    topic = kafka.create_topic("killed-often", 4)
    parts = [numbered(50_000, partition) for partition in range(4)]
    for part in parts:
        archive(site.lake, site.index, part, rows_per_file=7_000)
    with site.serve({"main": kafka.url}) as api:
        done = strike(10, moments, site, api, topic)
    assert (done["state"], done["reason"], done["progress"]["published"]) == ("COMPLETED", None, 200_000)
    assert (done["report"]["may_repeat"], done["report"]["failed"]) == (0, {})
    assert consumed(kafka, topic, 4) == list(itertools.chain.from_iterable(map(expected, parts)))


def test_kills_leave_every_message_once_and_in_order_on_nats(
    nats_site: NatsSite, subject: str, site: Site, moments: random.Random
) -> None:
    messages: pa.Table = table(*[row(offset=n, data=b"%d" % n) for n in range(60_000)])
    archive(site.lake, site.index, messages, rows_per_file=7_000)
    with site.serve({"main": nats_site.server.url}) as api:
        done = strike(3, moments, site, api, subject)
    assert (done["state"], done["progress"]["published"]) == ("COMPLETED", 60_000)
    assert done["report"]["failed"] == {}
    with reading(nats_site.reader(subject), {Partition(subject, 0): 1}) as reader:
        arrived = together(fetch(reader, 60_000))
        assert arrived["data"].to_pylist() == messages["data"].to_pylist()
        assert reader.poll(0.5) == []


def forget(kafka: Kafka, lake: Lake, plan: Plan) -> None:
    """Delete the offsets of the lanes that are under way."""
    # A lane that knows of no commit cannot tell that one was forgotten.
    begun = [lane for lane in plan.lanes if Ledger(lake, plan, lane).read()[0].done]
    admin = kafka.admin()
    for deleted in admin.delete_consumer_groups(
        [f"persistor-resubmission-{plan.job}-{lane}" for lane in begun]
    ).values():
        deleted.exception(30)  # those that are done have deleted it


def test_where_kafka_has_forgotten_the_progress_no_more_repeats_than_the_report_says(
    kafka: Kafka, site: Site, tmp_path: Path, moments: random.Random
) -> None:
    topic = kafka.create_topic("forgotten", 2)
    parts = [numbered(60_000, partition) for partition in range(2)]
    for part in parts:
        archive(site.lake, site.index, part, rows_per_file=7_000)
    made = settings(tmp_path, f"{kafka.url}/{topic}")
    slowly = command(made, "--selection", made.selection or "", "--messages_per_second", "6000")
    words, id = slowly, ""
    for least in each(2, 120_000, moments):
        with spawned(words, stdout=subprocess.DEVNULL) as sender:
            id = id or wait_until(lambda: site.index.list_jobs(1), 60, "the job")[0]["id"]
            plan = planned(site.lake, id)
            some_way_on(site.lake, plan, least, moments)
            assert sender.poll() is None, "it ended before it was killed"
        forget(kafka, site.lake, plan)
        # This one waits until the lease of the one that was killed has run out.
        words = command(made, "--resume", id)
    with spawned(words, stdout=subprocess.PIPE, text=True) as sender:
        output, _ = sender.communicate(timeout=240)
    report = json.loads(output)["report"]
    assert (sender.returncode, report["failed"]) == (0, {})
    found, repeats = consumed(kafka, topic, 2), 0
    for part in parts:
        wanted = expected(part)
        sent = [message[2] for message in found if message[0] == wanted[0][0]]
        assert list(dict.fromkeys(sent)) == [message[2] for message in wanted]
        repeats += len(sent) - len(wanted)
    assert repeats <= report["may_repeat"]
