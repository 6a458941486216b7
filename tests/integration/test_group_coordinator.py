"""Only the coordinator of the job's group is away: the topic, the lake and all else are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.integration.harness import Archive, Persist, committed, expected
from tests.integration.load import Load
from tests.servers import Unavailable, free_port, wait_until
from tests.servers.kafka import Kafka
from tests.servers.kafka_cluster import KafkaCluster
from transforms.lake import Lake
from transforms.reading.source import Source

pytestmark = pytest.mark.timeout(400)

_ONE_COORDINATOR = "offsets.topic.replication.factor=1\n"
Away = Callable[[Kafka], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    try:
        Kafka.install()
    except Unavailable as missing:
        pytest.skip(str(missing))
    with KafkaCluster(tmp_path_factory.mktemp("cluster"), _ONE_COORDINATOR) as started:
        yield started


@contextmanager
def killed(broker: Kafka) -> Iterator[None]:
    with broker.killed():
        yield


@contextmanager
def frozen(broker: Kafka) -> Iterator[None]:
    broker.pause()
    try:
        yield
    finally:
        broker.resume()


@pytest.mark.parametrize(("away", "said"), [(killed, "cannot commit offsets"), (frozen, "Archiving")])
def test_archiving_begins_goes_on_and_ends_without_the_groups_coordinator(
    away: Away, said: str, cluster: KafkaCluster, tmp_path: Path
) -> None:
    kafka, lake, index = cluster.members[0], f"file://{tmp_path}/lake", f"sqlite://{tmp_path}/index.db"
    topic, archived, port = (
        kafka.create_topic(f"t-{away.__name__}", 2),
        Archive(Lake(lake), index),
        free_port(),
    )
    source = f"kafka://{kafka.bootstrap}/{topic}"
    options = {"source": source, "lake": lake, "index": index, "metrics_port": str(port)}
    with Persist(tmp_path / "log", **options) as job:
        with Load(kafka, {topic: 2}, rate=200):
            more(archived, job, 500)
            wait_until(lambda: committed(kafka, topic, archived) > 0, 60, "a commit")
            with away(coordinator(cluster, lake)):
                more(archived, job, 2000)
                job.drain(30)
                job.start()
                more(archived, job, 1000)
                assert said in job.output()
                assert "without the group's position" in job.output()
        messages = expected(kafka, topic)
        archived.wait_for(messages, job)
        end = len(messages)
        wait_until(lambda: committed(kafka, topic, archived) == end, 60, "the offsets to follow")
        job.drain(30)
    archived.check(messages)


def coordinator(cluster: KafkaCluster, lake: str) -> Kafka:
    group = Source("", purpose=f"{lake}|").group
    admin = cluster.members[0].admin()
    found = admin.describe_consumer_groups([group])[group].result(20)
    return cluster.members[found.coordinator.id - 1]


def more(archived: Archive, job: Persist, messages: int) -> None:
    before = archived.indexed()
    wait_until(lambda: bool(job.pid) and archived.indexed() >= before + messages, 90, "messages", pause=0.2)
