"""Lanes that stand still for longer than a transaction may take: nothing is lost, doubled or given up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from tests._archive import archive
from tests._processes import spawned
from tests._replay import command, consumed, expected, freeze, numbered, settings
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from tests.servers.seaweed import Seaweed
from transforms.brokers import kafka as broker
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.replay import Report, replay_lane
from transforms.replay.control import Control, Wish, write_control
from transforms.replay.ledger import total
from transforms.replay.pacing import Pacer

IMPATIENT = {"transaction.timeout.ms": "4000", "delivery.timeout.ms": "4000"}
STALL = 8.0
"""Seconds; Kafka looks for transactions that are open for too long every second or so."""


def stand_still() -> None:
    until = time.monotonic() + STALL
    wait_until(lambda: time.monotonic() > until, 60, "a stall to pass")


def test_a_process_that_was_frozen_goes_on_and_every_message_arrives_once(
    kafka: Kafka, lake: Lake, index: Index, tmp_path: Path
) -> None:
    topic, messages = kafka.create_topic("frozen", 1), numbered(40_000)
    archive(lake, index, messages)
    made = settings(tmp_path, f"{kafka.url}/{topic}")
    plan = freeze(lake, index, made.destination or "")
    write_control(lake, plan.job, Wish(messages_per_second=4_000), 1)
    more = [word for pair in IMPATIENT.items() for word in ("--destination_config", "=".join(pair))]
    with spawned(command(made, "--resume", plan.job, *more), stdout=subprocess.PIPE, text=True) as process:
        wait_until(lambda: total(lake, plan).done > 0, 60, "the first commit")
        os.kill(process.pid, signal.SIGSTOP)
        stand_still()
        write_control(lake, plan.job, Wish(), 2)
        os.kill(process.pid, signal.SIGCONT)
        told, _ = process.communicate(timeout=120)
    report = json.loads(told)["report"]
    assert (process.returncode, report["notes"], report["may_repeat"]) == (0, [], 0)
    assert report["published"] + report["already_published"] == 40_000
    assert consumed(kafka, topic) == expected(messages)


def test_a_lake_that_hangs_ends_no_transaction(kafka: Kafka, index: Index, seaweed: Seaweed) -> None:
    topic, messages = kafka.create_topic("hanging-lake", 1), numbered(40_000)
    lake = Lake(seaweed.create_bucket("hanging"), seaweed.config)
    archive(lake, index, messages)
    url = f"{kafka.url}/{topic}"
    plan = freeze(lake, index, url)
    [lane] = plan.lanes
    write_control(lake, plan.job, Wish(messages_per_second=4_000), 1)
    publisher = broker.open_publisher(url, IMPATIENT, name=f"{plan.job}-{lane}")
    pacer, reports = Pacer(Control(lake, plan.job).wish), list[Report]()
    worker = threading.Thread(
        target=lambda: reports.append(replay_lane(plan, lane, [lake], publisher, pacer=pacer))
    )
    worker.start()
    wait_until(lambda: total(lake, plan).done > 0, 60, "the first commit")
    seaweed.pause()
    try:
        stand_still()
    finally:
        seaweed.resume()
    worker.join(120)
    publisher.close()
    [report] = reports
    assert (report.published, report.may_repeat, report.notes) == (40_000, 0, [])
    assert consumed(kafka, topic) == expected(messages)
