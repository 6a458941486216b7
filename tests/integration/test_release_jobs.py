"""What an earlier release has planned and begun is taken over: plans, ledgers, controls, rows of jobs."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from tests._brokers import NatsSite, fetch, reading, together
from tests._replay import consumed
from tests.release import Release
from transforms import registry
from transforms.brokers import Partition
from transforms.job_row import Row


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    return Release(tmp_path / "release", monkeypatch)


def look(release: Release, id: str) -> Row:
    with closing(registry.index(release.index_url).open(release.index_url)) as index:
        return index.get_job(id) or {}


def arrived(site: NatsSite, stream: str) -> list[int]:
    count = site.do(lambda js: js.stream_info(stream)).state.messages
    with reading(site.reader(stream), {Partition(stream, 0): 1}) as reader:
        return [int(data) for data in together(fetch(reader, count))["data"].to_pylist()]


def test_a_plan_is_sent(release: Release) -> None:
    with release.nats() as nats:
        assert release.command("resubmit", "--plan", release.expected["planned"]) == 0
        assert arrived(NatsSite(nats), "copy-planned") == list(range(40))
    assert look(release, release.expected["planned"])["state"] == "COMPLETED"


def test_a_job_that_was_killed_on_kafka_goes_on_and_sends_nothing_twice(release: Release) -> None:
    job = release.expected["stopped"]
    with release.kafka() as kafka:
        assert len(consumed(kafka, "copy", 2)) < release.expected["messages"]
        assert release.command("resubmit", "--resume", job) == 0
        copied = [(partition, key, value) for partition, key, value, *_ in consumed(kafka, "copy", 2)]
    sent = [row for row in release.rows().to_pylist() if row["topic"] == "release"]
    sent.sort(key=lambda row: (row["partition"], row["offset"]))
    assert copied == [(row["partition"], row["key"], row["data"]) for row in sent]
    assert (look(release, job)["state"], look(release, job)["report"]["may_repeat"]) == ("COMPLETED", 0)


def test_a_job_that_was_killed_on_nats_goes_on(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    job = release.expected["stopped_nats"]
    with release.nats() as nats:
        capsys.readouterr()
        assert release.command("resubmit", "--resume", job, "--json") == 0
        report = json.loads(capsys.readouterr().out)["report"]
        found = arrived(NatsSite(nats), "copy-stopped")
    assert sorted(set(found)) == list(range(40))
    assert len(found) - 40 <= report["may_repeat"]
    assert report["already_published"] == release.expected[job]


def test_what_a_job_could_not_send_is_tried_again(
    release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    job = release.expected["done"]
    assert look(release, job)["state"] == "FAILED"
    with release.nats() as nats:
        before = arrived(NatsSite(nats), "copy-done")
        capsys.readouterr()
        assert release.command("jobs", "--job", job, "--action", "retry", "--json") == 0
        again = json.loads(capsys.readouterr().out)["id"]
        assert release.command("resubmit", "--resume", again) == 0
        found = arrived(NatsSite(nats), "copy-done")
    assert (len(before), sorted(found)) == (25, list(range(40)))
