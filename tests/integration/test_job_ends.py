"""Jobs that are asked to end while they plan or wait, and what is left of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests._archive import archive
from tests._processes import spawned
from tests._replay import numbered
from tests.api._jobs import SLOW, body, left, post, sending, until
from tests.api.conftest import Site, order
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from transforms.indexes import Index
from transforms.jobs import states
from transforms.jobs.actions import act, create
from transforms.jobs.keeper import Keeper, StoppedError
from transforms.jobs.planning_index import interruptible
from transforms.jobs.rows import new_row
from transforms.lake import Lake
from transforms.replay.options import Options
from transforms.replay.plans import new_job_id
from transforms.selection import Selection

WAITS = """
import sys
from pipelines.runners.signals import stopped_by_signals
from transforms import stop
from transforms.brokers.kafka.publisher import open_publisher
with stopped_by_signals(stop.stop):
    publisher = open_publisher(sys.argv[1], {"batch.size": "100000"}, name="waits")
    print("begins", flush=True)
    publisher.begin()
"""


def test_a_process_that_waits_for_a_coordinator_ends_soon_after_sigterm(kafka: Kafka) -> None:
    url = f"{kafka.url}/{kafka.create_topic('never-begun', 1)}"
    kafka.pause()
    try:
        command = [sys.executable, "-c", WAITS, url]
        with spawned(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "begins\n"
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert process.wait(30) != 0
            assert time.monotonic() - began < 5
            assert "the transaction coordinator does not answer" in process.stderr.read()
    finally:
        kafka.resume()


@pytest.mark.parametrize(("destination", "state"), [("main", "CANCELLED"), ("kafka://h:1", "CANCELLED")])
def test_a_cancelled_job_stops_planning(index: Index, lake: Lake, destination: str, state: str) -> None:
    archive(lake, index, numbered(10))
    selection = Selection(sources=("orders",))
    row = new_row(
        destination=destination, topic="t", selection=selection, options=Options(), requested_by=None
    )
    create(index, row, "resubmit")
    keeper = Keeper(index, lake, row["id"], on_lost=lambda: None)
    keeper.take()
    planned = interruptible(index, keeper.check)
    assert sum(map(len, planned.select(selection, ["id"]))) == 10

    def plan() -> None:
        with keeper:
            act(index, row["id"], "cancel", states.cancel, "ann")
            wait_until(lambda: list(planned.select(selection, ["id"])) and False, 30, "it to be heard")

    with pytest.raises(StoppedError, match="It was cancelled"):
        plan()
    found = index.get_job(row["id"])
    assert found is not None
    assert (found["state"], found["reason"], found["lease"]) == (
        state,
        "It was cancelled before anything was sent.",
        None,
    )


def test_a_stopped_process_stops_planning_and_another_may_begin(index: Index, lake: Lake) -> None:
    row = new_row(
        destination="main", topic="t", selection=Selection(all=True), options=Options(), requested_by=None
    )
    create(index, row, "resubmit")
    keeper = Keeper(index, lake, row["id"], on_lost=lambda: None)
    keeper.take()
    with pytest.raises(StoppedError), keeper:
        keeper.check(stopping=True)
    found = index.get_job(row["id"])
    assert found is not None
    assert (found["state"], found["lease"]) == ("RUNNING", None)


def test_a_job_that_is_cancelled_while_it_is_paused_leaves_no_group_behind(
    kafka: Kafka, tmp_path: Path
) -> None:
    site = Site.at(tmp_path)
    site.archive(*(order(n, publish_time=time.time_ns() // 1000) for n in range(2000)))
    topic, admin = kafka.create_topic(f"t{new_job_id()}", 1), kafka.admin()

    def groups(job: str) -> list[str]:
        found = admin.list_consumer_groups().result(30).valid
        return [one.group_id for one in found if job in one.group_id]

    with site.serve({"main": kafka.url}, inline_limit=10) as api:
        job = post(api, "resubmissions", body(topic, rate=SLOW), 202)
        sending(api, job)
        post(api, f"resubmissions/{job['id']}/pause")
        left(site, job)
        assert groups(job["id"])
        post(api, f"resubmissions/{job['id']}/cancel")
        assert until(api, job, "CANCELLED")["progress"]["published"]
        wait_until(lambda: not groups(job["id"]), 60, "the groups to be deleted")
    site.index.close()
