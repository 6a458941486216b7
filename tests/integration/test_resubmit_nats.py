"""Resubmission to a real NATS JetStream, which carries less than Kafka does and keeps no progress."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines import resubmit
from pipelines.cli import main
from pipelines.settings.replay import ResubmitSettings
from tests._archive import archive
from tests._brokers import NatsSite, fetch, reading, together
from tests._messages import row, table
from tests._processes import spawned
from tests._replay import command, freeze, header
from tests._replay import settings as of
from tests.servers import wait_until
from tests.servers.nats import Nats
from transforms.brokers import Partition
from transforms.brokers import nats as broker
from transforms.errors import ConfigurationError
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.replay import replay_lane
from transforms.replay.control import Wish
from transforms.replay.ledger import total
from transforms.replay.options import Options
from transforms.replay.pacing import Pacer
from transforms.replay.plans import load_plan

DATAPHOS = Path(__file__).parents[1] / "data" / "dataphos"


def settings(nats_site: NatsSite, tmp_path: Path, subject: str, **more: Any) -> ResubmitSettings:
    return of(tmp_path, f"{nats_site.server.url}/{subject}", **more)


SHAPES: list[dict[str, Any]] = [
    {"data": b""},
    {"data": bytes(range(256))},
    {"headers": [header("a", b"1"), header("b", b"2"), header("a", b"3")]},
    {"headers": [header("bin", b"\xff\xfe"), header("empty", b"")]},
    {"data": b"x" * 900_000},
]


def arrived(nats_site: NatsSite, subject: str, count: int) -> pa.Table:
    with reading(nats_site.reader(subject), {Partition(subject, 0): 1}) as reader:
        return together(fetch(reader, count))


def contents(messages: pa.Table) -> list[tuple[Any, ...]]:
    ours = ("Nats-Msg-Id",)
    return [
        (r["data"], r["key"], [(h["name"], h["value"]) for h in r["headers"] if h["name"] not in ours])
        for r in messages.to_pylist()
    ]


@pytest.mark.parametrize("format", ["parquet", "avro", "jsonl"])
def test_every_shape_that_nats_carries_arrives_as_it_was(
    nats_site: NatsSite, lake: Lake, index: Index, tmp_path: Path, subject: str, format: str
) -> None:
    messages = table(*[row(offset=n, **shape) for n, shape in enumerate(SHAPES)])
    archive(lake, index, messages, format=format)
    report = resubmit.run(settings(nats_site, tmp_path, subject))
    assert (report.published, report.verified_by_checksum, report.exit_code) == (5, 5, 0)
    assert contents(arrived(nats_site, subject, 5)) == contents(messages)


def test_what_nats_cannot_carry_is_refused_and_reduced_only_if_lossy(
    nats_site: NatsSite, lake: Lake, index: Index, tmp_path: Path, subject: str
) -> None:
    rich = row(key=b"k", data=None, headers=[header("n", None), header("m", b"1")])
    archive(lake, index, table(rich, row(offset=1, data=b"plain")))
    with pytest.raises(ConfigurationError) as refused:
        resubmit.run(settings(nats_site, tmp_path, subject))
    assert "cannot carry 1 null payloads" in str(refused.value)
    assert "1 keys" in str(refused.value)
    assert "1 null header values" in str(refused.value)
    report = resubmit.run(settings(nats_site, tmp_path, subject, options=Options(lossy=True)))
    assert (report.published, report.reduced, report.exit_code) == (2, 1, 0)
    reduced = row(key=None, data=b"", headers=[header("n", b""), header("m", b"1")])
    expected = table(reduced, row(offset=1, data=b"plain"))
    assert contents(arrived(nats_site, subject, 2)) == contents(expected)


def test_a_killed_job_goes_on_and_every_message_arrives_once_in_order(
    nats_site: NatsSite, lake: Lake, index: Index, tmp_path: Path, subject: str
) -> None:
    messages = table(*[row(offset=n, data=b"%d" % n) for n in range(100_000)])
    archive(lake, index, messages, rows_per_file=7_000)
    made = settings(nats_site, tmp_path, subject)
    words = command(made, "--selection", made.selection or "", "--messages_per_second", "5000")
    with spawned(words, stdout=subprocess.DEVNULL):
        job = wait_until(lambda: planned(lake), 60, "the plan")
        wait_until(lambda: total(lake, load_plan(lake, job)).done > 0, 60, "the first commit", pause=0.01)
    done = total(lake, load_plan(lake, job)).done
    assert 0 < done < 100_000
    assert main(["jobs", "--index", made.index, "--job", job, "--action", "rate"]) == 0  # as fast as it can
    again = subprocess.run(command(made, "--resume", job), stdout=subprocess.PIPE, check=False, text=True)
    report = json.loads(again.stdout)["report"]
    assert (again.returncode, report["already_published"], report["published"]) == (0, done, 100_000 - done)
    assert report["may_repeat"] == 20_000
    assert arrived(nats_site, subject, 100_000)["data"].to_pylist() == messages["data"].to_pylist()


def test_a_message_counts_once_as_one_that_may_repeat_however_often_the_server_is_lost(
    lake: Lake, index: Index, tmp_path: Path
) -> None:
    archive(lake, index, table(*[row(offset=n, data=b"%d" % n) for n in range(300)]))
    with Nats(tmp_path / "nats") as server:
        NatsSite(server).create("copies")
        url, looks = f"{server.url}/copies", 0

        def wish() -> Wish:
            nonlocal looks
            looks += 1
            if looks in {60, 150, 240}:
                server.kill()
                server.start()
            return Wish(messages_per_second=150)

        plan = freeze(lake, index, url)
        [lane] = plan.lanes
        publisher = broker.open_publisher(url, {}, name=f"{plan.job}-{lane}")
        report = replay_lane(plan, lane, [lake], publisher, pacer=Pacer(wish))
        publisher.close()
    assert (report.published, report.exit_code) == (300, 0)
    assert 0 < report.may_repeat <= 300


def planned(lake: Lake) -> str | None:
    return next((p.split("/")[2] for p, _ in lake.list("_persistor/plans") if p.endswith("plan.json")), None)
