"""A cluster of three Kafka brokers, topics of three replicas, whose leaders are killed; TLS and SASL."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests._archive import archive
from tests._processes import spawned
from tests._replay import command, consumed, numbered, settings
from tests._replay import expected as sent_as
from tests.integration.harness import Archive, Persist, expected
from tests.integration.load import Load
from tests.servers import Unavailable, wait_until
from tests.servers.certificates import Authority
from tests.servers.kafka import PASSWORD, USER, Kafka
from tests.servers.kafka_cluster import KafkaCluster
from transforms.brokers import kafka as broker
from transforms.errors import PersistorError
from transforms.indexes import Index
from transforms.lake import Lake

pytestmark = pytest.mark.timeout(300)

MESSAGES = 30_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    try:
        Kafka.install()
    except Unavailable as missing:
        pytest.skip(str(missing))
    with KafkaCluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
def secured(cluster: KafkaCluster, tmp_path: Path) -> dict[str, str]:
    """A client's settings for the listeners with TLS and SASL, the password by reference."""
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    return {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(cluster.authority.ca),
        "sasl.mechanism": "PLAIN",
        "sasl.username": USER,
        "sasl.password": f"${{file:{secret}}}",
    }


def test_every_message_is_archived_once_whichever_leaders_are_killed(
    cluster: KafkaCluster, secured: dict[str, str], tmp_path: Path
) -> None:
    kafka, lake, index = cluster.members[0], f"file://{tmp_path}/lake", f"sqlite://{tmp_path}/index.db"
    topic, archived = kafka.create_topic("led", 2), Archive(Lake(lake), index)
    config = [f"{name}={value}" for name, value in secured.items()]
    source = f"kafka://{kafka.sasl_bootstrap}/{topic}"
    with Persist(tmp_path / "log", source=source, source_config=config, lake=lake, index=index) as job:
        with Load(kafka, {topic: 2}, rate=400):
            for _ in range(2):
                wait_for_more(archived, job)
                with cluster.leader(topic).killed():
                    wait_for_more(archived, job)
                archived.check_not_overwritten()
        messages = expected(kafka, topic)
        archived.wait_for(messages, job)
        job.drain()
    archived.check(messages)


def wait_for_more(archived: Archive, job: Persist) -> None:
    before = archived.indexed()
    wait_until(lambda: bool(job.pid) and archived.indexed() > before + 500, 120, "messages", pause=0.2)


def test_a_resubmission_sends_each_message_once_although_a_leader_is_killed(
    cluster: KafkaCluster, secured: dict[str, str], lake: Lake, index: Index, tmp_path: Path
) -> None:
    kafka, parts = cluster.members[0], [numbered(MESSAGES // 2, partition) for partition in range(2)]
    topic = kafka.create_topic("led-again", 2)
    for part in parts:
        archive(lake, index, part)
    made = settings(tmp_path, f"kafka://{kafka.sasl_bootstrap}/{topic}")
    words = ["--selection", made.selection or "", "--messages_per_second", str(MESSAGES // 10)]
    words += [f"--destination_config={name}={value}" for name, value in secured.items()]
    with spawned(command(made, *words), stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: sent(index) > MESSAGES // 4, 60, "the job to get on")
        with cluster.leader(topic).killed():
            before = sent(index)
            wait_until(lambda: sent(index) > before, 150, "another leader to take messages")
        assert process.wait(120) == 0
    [job] = index.list_jobs(9)
    assert (job["state"], job["progress"]["published"], job["report"]["may_repeat"]) == (
        "COMPLETED",
        MESSAGES,
        0,
    )
    assert consumed(kafka, topic, 2) == [message for part in parts for message in sent_as(part)]


def sent(index: Index) -> int:
    return sum(job["progress"]["published"] for job in index.list_jobs(9))


def test_a_certificate_of_a_stranger_is_not_trusted(
    cluster: KafkaCluster, secured: dict[str, str], tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger")
    wrong = {**secured, "ssl.ca.location": str(stranger.ca)}
    url = f"kafka://{cluster.members[0].sasl_bootstrap}/led"
    reader = broker.open_reader(url, wrong, group="g")
    try:
        with pytest.raises(PersistorError, match=r"ssl\.ca\.location"):
            reader.discover()
    finally:
        reader.close()
