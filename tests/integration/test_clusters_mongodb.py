"""The index on a replica set whose members are killed, with TLS and users who may do what is needed only."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from pathlib import Path
from typing import Any

import pytest

from tests._entries import entry, stream, table
from tests.api.conftest import Client, Site, Streams, order
from tests.integration.harness import Archive, Load, Persist, expected
from tests.servers import Unavailable, wait_until
from tests.servers.certificates import Authority
from tests.servers.kafka import Kafka
from tests.servers.mongodb import PASSWORD, MongoDB, ReplicaSet
from tests.servers.nats import Nats
from transforms import registry
from transforms.errors import ConfigurationError, PersistorError, TransientError
from transforms.indexes import ConflictError, mongodb
from transforms.jobs.rows import at
from transforms.lake import Lake

pytestmark = pytest.mark.timeout(300)

ARCHIVER = {"messages": ["find", "insert", "createIndex"], "messages_jobs": ["createIndex"]}
SERVICE = {
    "messages": ["find", "createIndex"],
    "messages_jobs": ["find", "insert", "update", "createIndex"],
    "messages_audit": ["find", "insert"],
}
MESSAGES, RATE = 900, 30


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    try:
        MongoDB.install()
    except Unavailable as missing:
        pytest.skip(str(missing))
    with ReplicaSet(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(scope="module")
def archiver(cluster: ReplicaSet, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL for those who write the index, with a reference to the password."""
    name, _, password = cluster.add_user("archiver", **ARCHIVER).partition(":")
    secret = tmp_path_factory.mktemp("secrets") / "mongo"
    secret.write_text(f"{password}\n")
    return cluster.url(f"{name}:${{file:{secret}}}")


@pytest.fixture(scope="module")
def service(cluster: ReplicaSet) -> str:
    """The URL for those who search and resubmit."""
    return cluster.url(cluster.add_user("service", **SERVICE))


def test_every_message_is_indexed_once_whichever_primaries_are_killed(
    kafka: Kafka, cluster: ReplicaSet, archiver: str, tmp_path: Path
) -> None:
    topic, lake = kafka.create_topic("elections", 2), f"file://{tmp_path}/lake"
    archive = Archive(Lake(lake), cluster.url())
    job = Persist(tmp_path / "log", source=f"{kafka.url}/{topic}", lake=lake, index=archiver)
    with job:
        with Load(kafka, {topic: 2}, rate=400):
            for _ in range(2):
                wait_for_more(archive, job)
                killed = cluster.kill_primary()
                wait_for_more(archive, job)
                killed.start()
                wait_until(lambda: is_secondary(killed), 60, "the member that was killed")  # noqa: B023
        messages = expected(kafka, topic)
        archive.wait_for(messages, job)
        job.drain()
    archive.check(messages)
    assert PASSWORD not in job.output()


def wait_for_more(archive: Archive, job: Persist) -> None:
    """Wait for entries that are confirmed after this was asked; an election may be under way."""

    def count() -> int:
        try:
            return archive.indexed()
        except TransientError:
            return -1

    before = wait_until(lambda: bool(job.pid) and count() + 1, 60, "an answer of the index")
    wait_until(lambda: bool(job.pid) and count() > before + 500, 90, "entries in the index", pause=0.2)


def is_secondary(member: MongoDB) -> bool:
    return bool(member.run_command("hello")["secondary"])


def test_jobs_go_on_over_a_replica_set_that_is_away_for_longer_than_a_lease(
    cluster: ReplicaSet, service: str, nats: Nats, tmp_path: Path
) -> None:
    streams, index = Streams(nats.url), registry.index(service).open(service)
    topics = [streams.create(f"clusters-{n}") for n in ("service", "command")]
    site = Site(tmp_path, service, Lake(f"file://{tmp_path}/lake"), index)
    administered = registry.index(cluster.url()).open(cluster.url())
    Site(tmp_path, service, site.lake, administered).archive(
        *(order(n, topic="jobs") for n in range(MESSAGES)), source="jobs"
    )
    with (
        contextlib.closing(index),
        contextlib.closing(administered),
        site.serve({"main": nats.url}, inline_limit=10) as api,
    ):
        body = {"destination": "main", "topic": topics[0], "selection": {"sources": ["jobs"]}}
        job = api.post("/v1/resubmissions", json={**body, "rate": {"messages_per_second": RATE}}).json()["id"]
        with resubmit(site, f"{nats.url}/{topics[1]}") as command:
            wait_until(lambda: all(map(streams.count, topics)), 60, "both jobs to send")
            run = (index.get_job(job) or {})["run"]
            lapse(cluster)
            command.communicate(timeout=120)
        wait_until(lambda: (index.get_job(job) or {})["state"] != "RUNNING", 120, "the service's job to end")
        rows = index.list_jobs(9)
        told = {row["topic"]: (row["state"], row["progress"]["published"], row["reason"]) for row in rows}
        assert told == dict.fromkeys(topics, ("COMPLETED", MESSAGES, None))
        assert command.returncode == 0
        assert [row["run"] for row in rows if row["id"] == job] == [run], "another process took it up"
    for topic in topics:
        assert streams.payloads(topic) == [b"order %d" % n for n in range(MESSAGES)]


@contextlib.contextmanager
def resubmit(site: Site, destination: str) -> Iterator[subprocess.Popen[str]]:
    given = {
        "index": site.index_url,
        "lake": site.lake.url,
        "destination": destination,
        "selection": '{"sources": ["jobs"]}',
        "messages_per_second": str(RATE),
    }
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-m", "pipelines.resubmit", "--json", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lapse(cluster: ReplicaSet) -> None:
    """Take the majority away until every lease that was held has run out, and give it back."""
    killed = [cluster.kill_primary(), next(m for m in cluster.members if is_up(m))]
    killed[1].kill()
    out = at(11)
    wait_until(lambda: at() > out, 30, "the leases to run out")
    for member in killed:
        member.start()
    wait_until(cluster.primary, 60, "a primary")


def is_up(member: MongoDB) -> bool:
    try:
        return bool(member.pid)
    except RuntimeError:
        return False
