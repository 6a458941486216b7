"""Resubmission to a real Kafka: what arrives is what was archived, once, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines import plan, resubmit
from pipelines.settings.replay import ResubmitSettings
from tests._archive import archive
from tests._messages import row, table, with_checksums
from tests._processes import spawned
from tests._replay import command, consumed, expected, freeze, header, numbered
from tests._replay import settings as of
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from transforms.brokers import kafka as broker
from transforms.errors import ConfigurationError
from transforms.formats import avro
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.model import ENTRY_SCHEMA
from transforms.replay import Report, replay_inline, replay_lane
from transforms.replay.control import Wish, write_control
from transforms.replay.ledger import total
from transforms.replay.options import Options
from transforms.replay.plans import load_plan
from transforms.selection import Selection
from transforms.times import iso_time

NOW_MS = time.time_ns() // 1_000_000
DATAPHOS = Path(__file__).parents[1] / "data" / "dataphos"
BIG = os.urandom(900_000)


SHAPES: list[dict[str, Any]] = [
    {"data": b""},
    {"data": None, "key": b"tombstone"},
    {"key": None},
    {"key": b""},
    {"data": BIG},
    {"key": b"\xff\x00\xfe"},
    {"headers": [header("n\u00e4me", b"\xff\xfe")]},
    {"headers": [header("a", b"1"), header("b", b"2"), header("a", b"3")]},
    {"headers": [header("null", None), header("", b"")]},
    {"publish_time": (NOW_MS - 3_600_000) * 1000},
]


def shapes() -> pa.Table:
    plain = {"partition": 0, "data": b"x", "publish_time": NOW_MS * 1000}
    return table(*[row(offset=n, **{**plain, **shape}) for n, shape in enumerate(SHAPES)])


def contents(kafka: Kafka, topic: str, count: int, partitions: int = 1) -> list[tuple[Any, ...]]:
    """What a read-committed consumer sees, by partition in order: so many."""
    messages = consumed(kafka, topic, partitions)
    assert len(messages) == count
    return messages


def settings(kafka: Kafka, tmp_path: Path, topic: str, **more: Any) -> ResubmitSettings:
    return of(tmp_path, f"{kafka.url}/{topic}", **more)


@pytest.mark.parametrize("format", ["parquet", "avro", "jsonl"])
def test_every_shape_of_message_arrives_as_it_was(
    kafka: Kafka, lake: Lake, index: Index, tmp_path: Path, format: str
) -> None:
    topic = kafka.create_topic(f"shapes-{format}", 1)
    archive(lake, index, shapes(), format=format)
    report = resubmit.run(settings(kafka, tmp_path, topic))
    assert report.to_dict() | {"job": "", "seconds": 0, "rate": 0} == {
        "job": "",
        "destination": topic,
        "planned": len(SHAPES),
        "published": len(SHAPES),
        "verified_by_checksum": len(SHAPES),
        "verified_by_id": 0,
        "reduced": 0,
        "may_repeat": 0,
        "sources": {"orders": {"published": len(SHAPES), "failed": 0}},
        "last_publish_time": iso_time(NOW_MS * 1000),
        "failed": {},
        "errors": [],
        "already_published": 0,
        "notes": [],
        "halted": None,
        "seconds": 0,
        "rate": 0,
        "exit_code": 0,
    }
    assert contents(kafka, topic, len(SHAPES)) == expected(shapes())


def test_a_chain_of_200_resubmissions_leaves_a_message_as_it_was(
    kafka: Kafka, lake: Lake, index: Index
) -> None:
    topic = kafka.create_topic("chain", 1)
    url = f"{kafka.url}/{topic}"
    reader = broker.open_reader(url, {}, group="chain")
    [partition] = reader.discover()
    reader.assign({partition: 0})
    publisher = broker.open_publisher(url, {})
    publisher.begin()
    target = publisher.destination()
    shape = row(
        key=b"\xff", data=None, publish_time=NOW_MS * 1000, headers=[header("a", b"\xff"), header("a", None)]
    )
    first = message = with_checksums(table(shape))
    for link in range(200):
        archive(lake, index, message, source=f"link{link}")
        _, report = replay_inline(
            index,
            [lake],
            Selection(ids=(f"link{link}_0_{max(link - 1, 0)}",)),
            url=url,
            publisher=publisher,
            destination=target,
            options=Options(),
        )
        assert report.published == 1
        [fetched] = wait_until(lambda: reader.poll(0.02), 60, "the message to arrive")
        assert fetched.position == link + 1
        message = with_checksums(fetched.messages.append_column("checksum", pa.nulls(1, pa.int64())))
    same = ["partition", "publish_time", "key", "data", "headers", "checksum"]
    assert message.select(same).to_pylist() == first.select(same).to_pylist()
    publisher.close()
    reader.close()


def test_what_is_wrong_in_lake_or_index_is_reported_and_never_published(
    kafka: Kafka, lake: Lake, index: Index, tmp_path: Path
) -> None:
    topic = kafka.create_topic("wrong", 1)
    locations = archive(lake, index, numbered(50), rows_per_file=10)
    files = [Path(location.removeprefix("file://")) for location in locations]
    files[1].unlink()
    files[2].write_bytes(files[2].read_bytes()[:100])
    files[3].write_bytes(files[4].read_bytes())
    report = resubmit.run(settings(kafka, tmp_path, topic))
    assert (report.published, report.exit_code) == (20, 1)
    assert report.failed == {"missing": 10, "damaged": 10, "mismatch": 10}
    assert {e.id for e in report.errors} == {f"orders_0_{n}" for n in range(10, 40)}
    assert [m[2] for m in contents(kafka, topic, 20)] == [b"%d" % n for n in [*range(10), *range(40, 50)]]


@pytest.mark.parametrize("wrong", [None, 7])
def test_files_of_dataphos_persistor_are_verified_by_id_only(
    kafka: Kafka, lake: Lake, index: Index, tmp_path: Path, wrong: int | None
) -> None:
    topic = kafka.create_topic(f"dataphos-{wrong}", 4)
    data = (DATAPHOS / "lake_msg-0_0_1000.avro").read_bytes()
    assert lake.put_new("2026/msg-0_0.avro", data)
    theirs = avro.decode(data)
    places = [(r["id"], r["partition"], r["offset"]) for r in theirs.to_pylist()]
    indexed = [
        {
            **dict.fromkeys(ENTRY_SCHEMA.names),
            "id": f"orders_{id}",
            "source": "orders",
            "incarnation": 1,
            "topic": "orders",
            "partition": p,
            "offset": o,
            "ingestion_time": NOW_MS * 1000,
            "publish_time": NOW_MS * 1000,
            "attributes": [],
            "size": 1,
            "traits": 0,
            "location": lake.location("2026/msg-0_0.avro"),
            "position": 8 if n == wrong else n,
        }
        for n, (id, p, o) in enumerate(places)
    ]
    index.insert(pa.Table.from_pylist(indexed, schema=ENTRY_SCHEMA))
    report = resubmit.run(settings(kafka, tmp_path, topic))
    assert (report.verified_by_id, report.verified_by_checksum) == (1000 - (wrong is not None), 0)
    assert report.failed == ({} if wrong is None else {"mismatch": 1})
    sent = contents(kafka, topic, report.published, partitions=4)
    right = [r for n, r in enumerate(theirs.to_pylist()) if n != wrong]
    order = [r for n in range(4) for r in right if r["partition"] == n]
    assert [m[2] for m in sent] == [r["data"] for r in order]
    assert [m[3] for m in sent] == [[(h["name"], h["value"]) for h in r["headers"]] for r in order]


def test_order_and_partition_are_kept(kafka: Kafka, lake: Lake, index: Index, tmp_path: Path) -> None:
    topic = kafka.create_topic("ordered", 3)
    parts = [numbered(1000, partition) for partition in range(3)]
    for part in parts:
        archive(lake, index, part, rows_per_file=300)
    assert resubmit.run(settings(kafka, tmp_path, topic)).exit_code == 0
    sent = [message for part in parts for message in expected(part)]
    assert contents(kafka, topic, 3000, partitions=3) == sent


def test_keys_land_where_javas_producer_puts_them(
    kafka: Kafka, lake: Lake, index: Index, tmp_path: Path
) -> None:
    keys = [b"", b"\xff\x00", *(b"key-%d" % n for n in range(200)), *(os.urandom(n) for n in range(1, 40))]
    kafka.create_topic("java", 7)
    kafka.produce_with_java("java", keys)
    by_java = {message[1]: message[0] for message in contents(kafka, "java", len(keys), partitions=7)}
    topic = kafka.create_topic("by-key", 7)
    rows = [
        {"offset": n, "key": key, "data": b"x", "publish_time": NOW_MS * 1000} for n, key in enumerate(keys)
    ]
    archive(lake, index, table(*[row(**{"partition": 0, **one}) for one in rows]))
    assert resubmit.run(settings(kafka, tmp_path, topic, options=Options(partitions="key"))).exit_code == 0
    by_us = {message[1]: message[0] for message in contents(kafka, topic, len(keys), partitions=7)}
    assert by_us == by_java


def test_a_job_that_was_done_is_not_done_again(
    kafka: Kafka, lake: Lake, index: Index, tmp_path: Path
) -> None:
    topic = kafka.create_topic("again", 1)
    archive(lake, index, numbered(100))
    first = resubmit.run(settings(kafka, tmp_path, topic))
    admin = kafka.admin()
    groups = admin.list_consumer_groups().result(30).valid
    assert not [group.group_id for group in groups if first.job in group.group_id]
    index.close()
    (tmp_path / "index.db").unlink()
    again = resubmit.run(settings(kafka, tmp_path, topic, selection=None, resume=first.job))
    assert (again.published, again.already_published, again.exit_code) == (0, 100, 0)
    contents(kafka, topic, 100)


def test_a_job_is_not_led_to_another_destination(
    kafka: Kafka, lake: Lake, index: Index, tmp_path: Path
) -> None:
    kafka.create_topic("led", 1)
    archive(lake, index, numbered(10))
    first = resubmit.run(settings(kafka, tmp_path, "led"))
    with pytest.raises(ConfigurationError, match="remove --destination, or start a new job"):
        resubmit.run(settings(kafka, tmp_path, "other", selection=None, resume=first.job))
    assert (index.get_job(first.job) or {})["state"] == "COMPLETED"


def test_a_missing_topic_refuses_the_job(kafka: Kafka, lake: Lake, index: Index, tmp_path: Path) -> None:
    archive(lake, index, numbered(10))
    with pytest.raises(ConfigurationError, match="does not exist"):
        resubmit.run(settings(kafka, tmp_path, "absent"))
    assert index.list_jobs(9) == []
    assert plan.run(settings(kafka, tmp_path, "absent")).problems


def test_messages_older_than_the_retention_are_refused_until_they_get_new_times(
    kafka: Kafka, lake: Lake, index: Index, tmp_path: Path
) -> None:
    topic = kafka.create_topic("short", 1, retention_ms=600_000)
    archive(lake, index, shapes())
    with pytest.raises(ConfigurationError, match="use `timestamp: now`"):
        resubmit.run(settings(kafka, tmp_path, topic))
    assert resubmit.run(settings(kafka, tmp_path, topic, options=Options(timestamp="now"))).exit_code == 0
    assert all(m[4] >= NOW_MS for m in contents(kafka, topic, len(SHAPES)))


def test_a_killed_job_goes_on_and_every_message_arrives_once_in_order(
    kafka: Kafka, lake: Lake, index: Index, tmp_path: Path
) -> None:
    topic = kafka.create_topic("killed", 2)
    parts = [numbered(60_000, partition) for partition in range(2)]
    for part in parts:
        archive(lake, index, part, rows_per_file=7_000)
    made = settings(kafka, tmp_path, topic)
    plan = freeze(lake, index, made.destination or "")
    write_control(lake, plan.job, Wish(messages_per_second=10_000), 1)  # so that it is there to be killed
    for least in (1, 50_000):
        with spawned(command(made, "--resume", plan.job), stdout=subprocess.DEVNULL):
            wait_until(lambda: total(lake, plan).done >= least, 60, "the job to get on", pause=0.01)  # noqa: B023
    assert 50_000 <= total(lake, plan).done < 120_000
    write_control(lake, plan.job, Wish(), 2)
    done = subprocess.run(command(made, "--resume", plan.job), stdout=subprocess.PIPE, check=False, text=True)
    report = json.loads(done.stdout)["report"]
    assert done.returncode == 0
    assert report["published"] + report["already_published"] == 120_000
    assert report["already_published"] >= 50_000
    assert (report["verified_by_checksum"], report["may_repeat"], report["failed"]) == (120_000, 0, {})
    sent = [message for part in parts for message in expected(part)]
    assert contents(kafka, topic, 120_000, partitions=2) == sent


def test_a_worker_whose_lane_another_one_has_worked_ends_quietly(
    kafka: Kafka, lake: Lake, index: Index
) -> None:
    topic = kafka.create_topic("fenced", 1)
    messages = numbered(60_000)
    archive(lake, index, messages)
    url = f"{kafka.url}/{topic}"
    plan = freeze(lake, index, url)
    [lane] = plan.lanes
    old, new = (broker.open_publisher(url, {}, name=f"{plan.job}-{lane}") for _ in range(2))
    reports: list[Report] = []

    def replaced() -> bool:
        if not reports and total(lake, plan).done > 0:
            reports.append(replay_lane(plan, lane, [lake], new))
        return False

    first = replay_lane(plan, lane, [lake], old, stopped=replaced)
    [second] = reports
    assert 0 < first.published < 60_000
    assert "was taken over by another worker" in first.notes[0]
    assert (second.published, second.already_published) == (60_000 - first.published, first.published)
    assert contents(kafka, topic, 60_000) == expected(messages)


def test_a_stopped_lane_ends_early_and_is_resumed(kafka: Kafka, lake: Lake, index: Index) -> None:
    topic = kafka.create_topic("stopped", 1)
    messages = numbered(60_000)
    archive(lake, index, messages)
    url = f"{kafka.url}/{topic}"
    plan = freeze(lake, index, url)
    [lane] = plan.lanes
    first = replay_lane(
        plan,
        lane,
        [lake],
        broker.open_publisher(url, {}, name=f"{plan.job}-{lane}"),
        stopped=lambda: total(lake, plan).done > 0,
    )
    assert 0 < first.published < 60_000
    assert first.notes == [
        f"{60_000 - first.published} messages were not handled: continue with `resume: {plan.job}`."
    ]
    again = replay_lane(
        load_plan(lake, plan.job), lane, [lake], broker.open_publisher(url, {}, name=f"{plan.job}-{lane}")
    )
    assert again.exit_code == 0
    assert contents(kafka, topic, 60_000) == expected(messages)
