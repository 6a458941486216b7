"""``persistor persist`` on a real Flink cluster from the brokers besides Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests._brokers import Site, installed, numbered
from tests.flink.archives import numbers, wait_for
from tests.flink.conftest import Cluster
from tests.integration.harness import Archive
from tests.servers.flink import WorkerPool
from tests.servers.mongodb import MongoDB
from transforms.lake import Lake

pytestmark = pytest.mark.timeout(900)

_HALF = 10_000


@contextmanager
def _archived_under_a_kill(
    cluster: Cluster, broker: str, mongodb: MongoDB, tmp_path: Path
) -> Iterator[tuple[str, Archive]]:
    """A topic of numbers, and its archive that two workers began and two others went on with."""
    with installed(broker) as site, WorkerPool() as pool:  # whose workers find the broker by variables
        own, topic = replace(cluster, pool=pool), site.topic()
        archive = Archive(Lake(f"file://{tmp_path}/lake"), f"{mongodb.url.rpartition('/')[0]}/{topic}")
        words = [f"--source={site.url(topic)}", f"--lake={archive.lake.url}", f"--index={archive.index_url}"]
        often = ["--batch_age=500ms", "--batch_messages=1000", "--checkpointing_interval=1000"]
        _publish(site, topic, 0)
        job = own.submit("persist", *words, *often, "--shards=4", "--metrics_port=0")
        wait_for(archive, 1)
        assert own.kill_workers() >= 1
        _publish(site, topic, _HALF)
        wait_for(archive, 2 * _HALF)
        yield topic, archive
        own.cancel(job)


def _publish(site: Site, topic: str, start: int) -> None:
    for begin in range(start, start + _HALF, 1000):
        site.publish(topic, numbered(1000, begin))


def test_nats_is_archived_exactly_once(cluster: Cluster, mongodb: MongoDB, tmp_path: Path) -> None:
    with _archived_under_a_kill(cluster, "nats", mongodb, tmp_path) as (topic, archive):
        rows, entries = archive.messages(), archive.entries()
    ids = sorted(f"{topic}_0_{position}" for position in range(1, 2 * _HALF + 1))
    assert sorted(rows["id"].to_pylist()) == ids
    assert numbers(rows) == list(range(2 * _HALF))
    assert sorted(entries["id"].to_pylist()) == ids


def test_pubsub_is_archived_at_least_once_and_indexed_once(
    cluster: Cluster, mongodb: MongoDB, tmp_path: Path
) -> None:
    with _archived_under_a_kill(cluster, "pubsub", mongodb, tmp_path) as (_, archive):
        rows, entries = archive.messages(), archive.entries()
    assert set(numbers(rows)) == set(range(2 * _HALF))
    ids = entries["id"].to_pylist()
    assert sorted(ids) == sorted(set(rows["id"].to_pylist()))
    assert len(ids) == 2 * _HALF
