"""A resubmission that is paused, cancelled, slowed down, tried again, led to many topics or undone."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from pipelines.cli import main
from pipelines.settings.replay import ResubmitSettings
from tests._archive import archive
from tests._messages import row, table, with_checksums
from tests._processes import spawned
from tests._replay import command, consumed, expected, freeze, header, numbered, settings
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from transforms.brokers import kafka as broker
from transforms.dead_letters import dead_messages
from transforms.errors import ConfigurationError
from transforms.formats import parquet
from transforms.indexes import Index
from transforms.job_row import Row
from transforms.lake import Lake
from transforms.model import DeadLetter
from transforms.replay import Options, Plan, Report, freeze_plan, freeze_retry, replay_lane
from transforms.replay.control import Control, Wish, write_control
from transforms.replay.ledger import total
from transforms.replay.pacing import Pacer
from transforms.replay.plans import lane_topic, lane_url
from transforms.selection import Selection


def replay(plan: Plan, lane: int, lake: Lake, pacer: Pacer | None = None) -> Report:
    publisher = broker.open_publisher(lane_url(plan, lane), {}, name=f"{plan.job}-{lane}")
    try:
        return replay_lane(plan, lane, [lake], publisher, pacer=pacer)
    finally:
        publisher.close()


def replay_all(plan: Plan, lake: Lake) -> list[Report]:
    return [replay(plan, lane, lake) for lane in plan.lanes]


def by_name(kafka: Kafka, index: Index, lake: Lake, pattern: str, **options: Any) -> Plan:
    """A stored plan for a topic by pattern."""

    def look_up(topic: str) -> Any:
        return broker.open_publisher(f"{kafka.url}/{topic}", {}).destination()

    return freeze_plan(
        index,
        [lake],
        Selection(all=True),
        url=f"{kafka.url}/{pattern}",
        destination=look_up,
        options=Options(**options),
    )


@pytest.mark.parametrize("wished", ["pause", "cancel"])
def test_a_lane_that_is_halted_confirms_what_it_has_sent_and_nothing_repeats(
    kafka: Kafka, lake: Lake, index: Index, wished: Any
) -> None:
    topic = kafka.create_topic(f"halted-{wished}", 1)
    messages = numbered(9_000)
    archive(lake, index, messages)
    plan = freeze(lake, index, f"{kafka.url}/{topic}")
    [lane] = plan.lanes
    write_control(lake, plan.job, Wish(messages_per_second=2_000), 1)
    reports: list[Report] = []
    pacer = Pacer(Control(lake, plan.job).wish)
    worker = threading.Thread(target=lambda: reports.append(replay(plan, lane, lake, pacer)))
    worker.start()
    wait_until(lambda: total(lake, plan).done > 0, 30, "the first commit")
    write_control(lake, plan.job, Wish(wished, messages_per_second=2_000), 2)
    worker.join(10)
    [report] = reports
    left = 9_000 - report.published
    assert left > 0
    assert (report.halted, report.exit_code, report.may_repeat) == (wished, 1, 0)
    why = {"pause": f"paused: continue with `resume: {plan.job}`.", "cancel": "cancelled."}[wished]
    assert report.notes == [f"{left} messages were not handled, because the job was {why}"]
    assert total(lake, plan).done == report.published
    again = replay(plan, lane, lake, Pacer(Control(lake, plan.job).wish))
    assert (again.published, again.already_published, again.halted) == (0, report.published, wished)
    admin, group = kafka.admin(), f"persistor-resubmission-{plan.job}-{lane}"
    if wished == "pause":
        admin.delete_consumer_groups([group])[group].result(30)
    assert group not in {found.group_id for found in admin.list_consumer_groups().result(30).valid}
    write_control(lake, plan.job, Wish(), 3)
    rest = replay(plan, lane, lake, Pacer(Control(lake, plan.job).wish))
    assert (rest.published, rest.exit_code, rest.may_repeat, rest.halted) == (left, 0, 0, None)
    assert consumed(kafka, topic) == expected(messages)


def test_rates_of_the_command_are_kept_within_five_percent_over_thirty_seconds(
    kafka: Kafka, lake: Lake, index: Index, tmp_path: Path
) -> None:
    """One of messages, as it was given, and one of bytes, which changes while it runs."""
    given = {"counted": ("messages", "300"), "weighed": ("bytes", "100KB")}
    sizes = {"counted": (60_000, 10), "weighed": (20_000, 1_000)}
    with ExitStack() as stack:
        for name, (unit, rate) in given.items():
            count, size = sizes[name]
            # The broker says when a message came.
            kafka.create_topic(name, 2, **{"message.timestamp.type": "LogAppendTime"})
            archive(lake, index, table(*[row(offset=n, data=bytes(size)) for n in range(count)]), source=name)
            made = settings(tmp_path, f"{kafka.url}/{name}", options=Options(timestamp="now"))
            words = ["--timestamp", "now", "--selection", json.dumps({"sources": [name]})]
            stack.enter_context(spawned(command(made, *words, f"--{unit}_per_second", rate)))
        jobs = {job["topic"]: job["id"] for job in sending(index, 2)}
        ask_for(made, jobs["weighed"], "--bytes_per_second=150KB")
        changed = time.monotonic()
        # A change is heard in some seconds.
        wait_until(lambda: time.monotonic() > changed + 36, 60, "36 seconds to pass")
        end = time.time()
        for id in jobs.values():
            ask_for(made, id)
        wait_until(lambda: not index.list_jobs(9, states=("RUNNING",)), 240, "the jobs to end")
    kept = {name: arrivals(kafka, name) for name in given}
    assert {name: len(times) for name, times in kept.items()} == {"counted": 60_000, "weighed": 20_000}
    last = {name: times[(end - 30 <= times) & (times < end)] for name, times in kept.items()}
    assert len(last["counted"]) / 30 == pytest.approx(300, rel=0.05)
    assert len(last["weighed"]) * 1_000 / 30 == pytest.approx(150_000, rel=0.05)
    for times in last.values():
        assert np.median(np.diff(np.unique(times))) < 0.2  # in small steps


def sending(index: Index, count: int) -> list[Row]:
    """The jobs, once so many of them have published something."""

    def found() -> list[Row] | None:
        rows = [row for row in index.list_jobs(9) if row["progress"]["published"]]
        return rows if len(rows) == count else None

    return wait_until(found, 240, f"{count} jobs to send")


def ask_for(made: ResubmitSettings, id: str, *rate: str) -> None:
    """Another rate; without one there is no limit any more."""
    assert main(["jobs", "--index", made.index, "--job", id, "--action", "rate", *rate]) == 0


def arrivals(kafka: Kafka, topic: str) -> npt.NDArray[np.float64]:
    """When the messages of a topic came, in seconds since 1970, in order."""
    return np.sort(np.array([message[4] for message in consumed(kafka, topic, 2)]) / 1000)


def test_what_failed_is_tried_again_by_another_job_and_nothing_else(
    kafka: Kafka, lake: Lake, index: Index
) -> None:
    topic = kafka.create_topic("retried", 1)
    messages = numbered(50)
    files = [Path(name.removeprefix("file://")) for name in archive(lake, index, messages, rows_per_file=10)]
    kept = {file: file.read_bytes() for file in files[1:3]}
    for file in kept:
        file.unlink()
    plan = freeze(lake, index, f"{kafka.url}/{topic}")
    [first] = replay_all(plan, lake)
    assert (first.published, first.failed) == (30, {"missing": 20})
    assert first.sources == {"orders": {"published": 30, "failed": 20}}
    for file, data in kept.items():
        file.write_bytes(data)
    again = freeze_retry(lake, plan.job, "02retry")
    assert (again.messages, again.lanes) == (20, dict.fromkeys(plan.lanes, 20))
    [second] = replay_all(again, lake)
    assert (second.published, second.exit_code) == (20, 0)
    order = [*range(10), *range(30, 50), *range(10, 30)]
    assert [message[2] for message in consumed(kafka, topic)] == [b"%d" % n for n in order]


def test_each_source_goes_to_its_own_topic(kafka: Kafka, lake: Lake, index: Index) -> None:
    shares = {"orders": 30, "payments": 20, "audit": 10}
    for source, count in shares.items():
        kafka.create_topic(f"{source}-replay", 2 if source == "orders" else 1)
        archive(lake, index, numbered(count), source=source)
    kafka.create_topic("t-again", 1)
    plan = by_name(kafka, index, lake, "{source}-replay")
    assert plan.topics == ("audit-replay", "orders-replay", "payments-replay")
    assert plan.keyed == ("orders-replay",)
    sent = {lane_topic(plan, lane): count for lane, count in plan.lanes.items()}
    assert sent == {f"{source}-replay": count for source, count in shares.items()}
    assert [report.exit_code for report in replay_all(plan, lake)] == [0, 0, 0]
    for source, count in shares.items():
        assert len(consumed(kafka, f"{source}-replay", 2 if source == "orders" else 1)) == count
    by_topic = by_name(kafka, index, lake, "{topic}-again")
    assert (by_topic.topics, by_topic.messages) == (("t-again",), 60)


def test_every_topic_of_a_pattern_is_looked_up_before_anything_is_sent(
    kafka: Kafka, lake: Lake, index: Index
) -> None:
    kafka.create_topic("there-copy", 1)
    for source in ("there", "absent", "gone"):
        archive(lake, index, numbered(3), source=source)
    with pytest.raises(ConfigurationError) as refused:
        by_name(kafka, index, lake, "{source}-copy")
    assert [problem[:38] for problem in refused.value.problems] == [
        "Kafka topic 'absent-copy' does not exi",
        "Kafka topic 'gone-copy' does not exist",
    ]
    assert list(lake.list("_persistor/plans")) == []


def test_messages_of_a_key_keep_their_order_though_keys_spread_over_lanes(
    kafka: Kafka, lake: Lake, index: Index
) -> None:
    topic = kafka.create_topic("by-key", 1)
    archive(lake, index, numbered(80_000), rows_per_file=20_000)
    plan = freeze(lake, index, f"{kafka.url}/{topic}", order="key")
    assert len(plan.lanes) > 2
    assert all(report.exit_code == 0 for report in replay_all(plan, lake))
    found = consumed(kafka, topic)
    for key in {message[1] for message in found}:
        of_key = [int(message[2]) for message in found if message[1] == key]
        assert of_key == [n for n in range(80_000) if b"k%d" % (n % 7) == key]


def test_dead_letters_go_back_to_where_they_came_from_as_they_were(
    kafka: Kafka, lake: Lake, index: Index
) -> None:
    own = [header("a", b"\xff"), header("persistor-error-stage", b"mine"), header("a", None)]
    shapes: list[dict[str, Any]] = [
        {"data": b"plain", "key": b"k"},
        {"data": None, "headers": own},
        {"data": b"large" * 100_000, "key": b"\xff\x00", "headers": own},
        {"data": b"", "key": None},
    ]
    kafka.create_topic("origin", 3)
    originals = with_checksums(
        table(*[row(id=f"eu.origin_2_{n}", partition=2, offset=n, **shape) for n, shape in enumerate(shapes)])
    )
    stored = "_persistor/dead/0123.parquet"
    assert lake.put_new(stored, parquet.encode(originals.slice(2, 1)))
    letter = DeadLetter("eu.origin", "write", "permanent", "why not", originals)
    dead = dead_messages(letter, {2: lake.location(stored)})
    assert dead["data"][2].as_py() is None
    offsets = pa.array(range(4), pa.int64())
    dead = dead.set_column(2, "partition", pa.array([0] * 4, pa.int32())).set_column(3, "offset", offsets)
    archive(lake, index, dead.append_column("checksum", pa.nulls(4, pa.int64())), source="dead")
    plan = by_name(kafka, index, lake, "{origin}", restore=True, source_prefix="eu.", timestamp="now")
    assert (plan.topics, plan.options.partitions) == (("origin",), "original")
    [report] = replay_all(plan, lake)
    assert (report.published, report.verified_by_checksum, report.exit_code) == (4, 4, 0)
    assert [m[:4] for m in consumed(kafka, "origin", 3)] == [m[:4] for m in expected(originals)]


@pytest.mark.parametrize(
    "place", ["s3://elsewhere/_persistor/dead/x.parquet", "orders/orders-0-0.parquet", "gone"]
)
def test_a_payload_is_taken_only_from_where_dead_letters_are_stored(
    kafka: Kafka, lake: Lake, index: Index, place: str
) -> None:
    topic = kafka.create_topic(f"origin-{len(place)}", 1)
    [location] = archive(lake, index, numbered(1), source="orders")
    named = {"gone": lake.location("_persistor/dead/gone.parquet"), "orders/orders-0-0.parquet": location}
    letter = DeadLetter(topic, "write", "permanent", "why", table(row(id=f"{topic}_0_0"), sums=True))
    dead = dead_messages(letter, {0: named.get(place, place)})
    archive(lake, index, dead.append_column("checksum", pa.nulls(1, pa.int64())), source="dead")
    index_of_dead = Selection(sources=("dead",))
    plan = freeze(lake, index, f"{kafka.url}/{topic}", index_of_dead, restore=True, timestamp="now")
    [report] = replay_all(plan, lake)
    assert (report.published, report.failed) == (0, {"not_restored": 1})
    assert consumed(kafka, topic) == []


@pytest.mark.parametrize("position", ["{topic}_0_0", "payments_0_7", "payments_0_8"])
def test_a_made_up_header_brings_in_no_payload_of_another_source(
    kafka: Kafka, lake: Lake, index: Index, position: str
) -> None:
    topic = kafka.create_topic(f"made-up-{position[-1]}-{position[0] == 'p'}".lower(), 1)
    secret = table(row(id="payments_0_7", offset=7, data=b"secret"), sums=True)
    stored = "_persistor/dead/0001.parquet"
    assert lake.put_new(stored, parquet.encode(secret))
    claimed = row(id=position.format(topic=topic))
    dead = dead_messages(
        DeadLetter(topic, "write", "permanent", "why", table(claimed, sums=True)), {0: lake.location(stored)}
    )
    archive(lake, index, dead.append_column("checksum", pa.nulls(1, pa.int64())), source="dead")
    there = f"{kafka.url}/{topic}"
    plan = freeze(lake, index, there, Selection(sources=("dead",)), restore=True, timestamp="now")
    [report] = replay_all(plan, lake)
    assert (report.published, report.failed) == (0, {"not_restored": 1})
    assert consumed(kafka, topic) == []


def test_what_is_no_dead_letter_is_not_restored(kafka: Kafka, lake: Lake, index: Index) -> None:
    topic = kafka.create_topic("no-letters", 1)
    archive(lake, index, numbered(3))
    with pytest.raises(ConfigurationError, match="3 messages are no dead letters"):
        freeze(lake, index, f"{kafka.url}/{topic}", restore=True)
    with pytest.raises(ConfigurationError, match="Some of the messages are not dead letters"):
        by_name(kafka, index, lake, "{origin}", restore=True)
