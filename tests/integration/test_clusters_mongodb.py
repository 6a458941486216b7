"""The index on a replica set whose members are killed, with TLS and users who may do what is needed only."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests._entries import entry, stream, table
from tests._processes import spawned
from tests.api.conftest import Site, Streams, order
from tests.integration.harness import Archive, Persist, expected
from tests.integration.load import Load
from tests.servers import Unavailable, wait_until
from tests.servers.certificates import Authority
from tests.servers.kafka import Kafka
from tests.servers.mongodb import PASSWORD, MongoDB, ReplicaSet
from tests.servers.nats import Nats
from transforms import registry
from transforms.errors import ConfigurationError, TransientError
from transforms.indexes import ConflictError, mongodb
from transforms.jobs.rows import at
from transforms.lake import Lake

pytestmark = pytest.mark.timeout(300)

COUNTERS = {"messages_totals": ["find", "insert", "update"]}
ARCHIVER = {"messages": ["find", "insert", "createIndex"], "messages_jobs": ["createIndex"], **COUNTERS}
SERVICE = {
    "messages": ["find", "createIndex"],
    "messages_jobs": ["find", "insert", "update", "createIndex"],
    "messages_audit": ["find", "insert"],
    **COUNTERS,
}
EXPIRER = {"messages": ["find", "remove", "createIndex"], "messages_jobs": ["createIndex"], **COUNTERS}
MESSAGES, RATE = 900, 30
PATIENT = "&serverSelectionTimeoutMS=60000"
"""The tests' own questions wait for elections."""


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
    archive = Archive(Lake(lake), cluster.url(options=PATIENT))
    job = Persist(tmp_path / "log", source=f"{kafka.url}/{topic}", lake=lake, index=archiver)
    with job:
        with Load(kafka, {topic: 2}, rate=400):
            for _ in range(2):
                wait_for_more(archive, job)
                primary = wait_until(cluster.primary, 60, "a primary")
                with primary.killed():
                    wait_for_more(archive, job)
                wait_until(lambda: is_secondary(primary), 60, "the member that was killed")  # noqa: B023
        messages = expected(kafka, topic)
        archive.wait_for(messages, job)
        job.drain()
    archive.check(messages)
    assert PASSWORD not in job.output()


def wait_for_more(archive: Archive, job: Persist) -> None:
    """Wait for entries that are confirmed after this was asked."""
    before = archive.indexed()
    wait_until(lambda: bool(job.pid) and archive.indexed() > before + 500, 120, "entries", pause=0.2)


def is_secondary(member: MongoDB) -> bool:
    return bool(member.run_command("hello")["secondary"])


def test_jobs_go_on_over_a_replica_set_that_is_away_for_longer_than_a_lease(
    cluster: ReplicaSet, service: str, nats: Nats, tmp_path: Path
) -> None:
    streams, url = Streams(nats.url), cluster.url(options=PATIENT)
    topics = [streams.create(f"clusters-{n}") for n in ("service", "command")]
    index = registry.index(url).open(url)
    site = Site(tmp_path, service, Lake(f"file://{tmp_path}/lake"), index)
    site.archive(*(order(n, topic="jobs") for n in range(MESSAGES)), source="jobs")
    with contextlib.closing(index), site.serve({"main": nats.url}, inline_limit=10) as api:
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


def resubmit(site: Site, destination: str) -> AbstractContextManager[subprocess.Popen[Any]]:
    given = {
        "index": site.index_url,
        "lake": site.lake.url,
        "destination": destination,
        "selection": '{"sources": ["jobs"]}',
        "messages_per_second": str(RATE),
    }
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-m", "pipelines", "resubmit", "--json", *words]
    return spawned(command, stdout=subprocess.PIPE, text=True)


def lapse(cluster: ReplicaSet) -> None:
    """Take the majority away until every lease that was held has run out, and give it back."""
    primary = wait_until(cluster.primary, 60, "a primary")
    other = next(member for member in cluster.members if member is not primary)
    with primary.killed(), other.killed():
        out = at(11)
        wait_until(lambda: at() > out, 30, "the leases to run out")
    wait_until(cluster.primary, 60, "a primary")


def test_what_is_wrong_is_said_at_once_and_without_secrets(
    cluster: ReplicaSet, service: str, archiver: str, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger")
    wrong = {
        service.replace(str(cluster.authority.ca), str(stranger.ca)): "certificate is not trusted.*tlsCAFile",
        service.replace(str(cluster.authority.ca), f"{tmp_path}/none.pem"): r"none\.pem",
        cluster.url("service:wrong-secret"): "check user, password and roles",
        cluster.url(cluster.add_user("stranger", messages=["find"])): "check user, password and roles",
    }
    for url, words in wrong.items():
        with pytest.raises(ConfigurationError, match=words) as raised:
            mongodb.open(url)
        assert not {"wrong-secret", PASSWORD} & set(str(raised.value).replace("@", ":").split(":"))
    reading, writing = mongodb.open(service), mongodb.open(archiver)
    with contextlib.closing(reading), contextlib.closing(writing):
        for refused in (
            lambda: reading.insert(stream(0, 1, "r")),
            lambda: writing.create_job({"id": "1", "version": 0}, {"id": "1"}),
        ):
            with pytest.raises(TransientError, match=r"Unauthorized \(13\); check user, password and roles"):
                refused()


def test_nothing_is_confirmed_before_a_majority_has_it_whatever_the_url_says(cluster: ReplicaSet) -> None:
    index = mongodb.open(cluster.url(options=f"{PATIENT}&w=1&journal=false&readPreference=secondary"))
    first, other = table(entry("once", checksum=1)), table(entry("once", checksum=2))
    primary = wait_until(cluster.primary, 60, "a primary")
    behind = [member for member in cluster.members if member is not primary]
    with contextlib.closing(index), ThreadPoolExecutor(1) as threads:
        for member in behind:
            member.pause()
        try:
            inserted = threads.submit(index.insert, first)
            with pytest.raises(NotYetError):
                inserted.result(timeout=1)
        finally:
            for member in behind:
                member.resume()
        with contextlib.suppress(TransientError):  # a new primary was elected: it is not known
            inserted.result(timeout=60)
        wait_until(cluster.primary, 60, "a primary")
        index.insert(first)
        with pytest.raises(ConflictError):
            index.insert(other)
        assert index.create_job({"id": "decided", "version": 0}, {"id": "decided"})["version"] == 0
        assert index.replace_job({"id": "decided"}, 0)
        assert (index.get_job("decided") or {})["version"] == 1


def test_whoever_expires_needs_to_remove_entries_and_no_more(cluster: ReplicaSet, archiver: str) -> None:
    expirer = cluster.url(cluster.add_user("expirer", **EXPIRER))
    writing, removing = mongodb.open(archiver), mongodb.open(expirer)
    with contextlib.closing(writing), contextlib.closing(removing):
        writing.insert(table(entry("old", location="file:///lake/old")))
        with pytest.raises(TransientError, match="Unauthorized"):
            writing.forget(["file:///lake/old"])
        assert removing.forget(["file:///lake/old"]) == 1
