"""``persistor persist`` on a real Flink cluster: exact, whatever is killed, stopped, rescaled or upgraded."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import requests

from pipelines.persist import run
from pipelines.settings.parsing import parse
from pipelines.settings.streaming import PersistSettings
from tests.flink.archives import MESSAGES, Topic, check_exact, wait_for
from tests.flink.conftest import Cluster
from tests.integration.harness import Archive, metric
from tests.servers import Unavailable, free_port, wait_until
from tests.servers.flink import WorkerPool
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB
from tests.servers.programs import BOOT
from transforms.errors import PermanentError
from transforms.lake import Lake
from transforms.metrics.workers import PORTS

pytestmark = pytest.mark.timeout(900)

_OLD_RELEASES = sorted(Path(__file__).parent.glob("release-*.zip"))


@pytest.fixture
def topic(kafka: Kafka) -> Topic:
    return Topic(kafka)


@pytest.fixture
def archive(mongodb: MongoDB, topic: Topic, tmp_path: Path) -> Archive:
    url = f"{mongodb.url.rpartition('/')[0]}/{topic.name}"
    return Archive(Lake(f"file://{tmp_path}/lake"), url)


@pytest.fixture
def port() -> int:
    """The first of the ports of workers' metrics."""
    return free_port()


@pytest.fixture
def words(topic: Topic, archive: Archive, port: int) -> list[str]:
    """Of the command; bundles and checkpoints come often, so that every kill meets some."""
    return [
        f"--source={topic.url}",
        f"--lake={archive.lake.url}",
        f"--index={archive.index_url}",
        "--batch_messages=2000",
        "--batch_age=500ms",
        "--checkpointing_interval=1000",
        "--max_bundle_time_mills=100",
        "--metrics_host=127.0.0.1",
        f"--metrics_port={port}",
    ]


def test_kills_of_every_part_lose_and_double_nothing_and_the_numbers_come_back(
    cluster: Cluster, topic: Topic, archive: Archive, words: list[str], port: int
) -> None:
    job = cluster.submit("persist", *words)
    for kill in (_kill_worker, _kill_taskmanager, _kill_jobmanager, _kill_pool):
        before = topic.count
        topic.produce(MESSAGES // 5)
        wait_for(archive, before + 1)
        wait_until(lambda: _sum(port, "persistor_messages_total", source=topic.name), 60, "numbers")
        kill(cluster)
        archive.check_not_overwritten()
    topic.produce(MESSAGES - topic.count)
    wait_for(archive, topic.count)
    check_exact(archive, topic)
    _check_numbers(cluster, port, topic)
    cluster.cancel(job)


def _check_numbers(cluster: Cluster, port: int, topic: Topic) -> None:
    """The workers that are there are shown on the first ports, and nobody else is."""
    said = {"command": "persist", "version": version("persistor")}

    def shown() -> list[int]:
        return [number for number in range(PORTS) if metric(port + number, "persistor_info", **said) == 1]

    wait_until(lambda: shown() and len(shown()) == len(cluster.workers()), 60, "as many as there are workers")
    assert shown() == list(range(len(shown())))
    for name in ("lag_messages", "oldest_unarchived_seconds"):
        wait_until(lambda: _sum(port, f"persistor_{name}", source=topic.name) == 0, 60, name)  # noqa: B023
    assert (_sum(port, "persistor_messages_total", source=topic.name) or 0) > 0
    assert (_sum(port, "persistor_index_seconds_count") or 0) > 0


def _sum(port: int, name: str, **labels: str) -> float | None:
    """Over all workers of this machine, None where none knows it."""
    found = [metric(port + number, name, **labels) for number in range(PORTS)]
    return sum(value for value in found if value is not None) if any(v is not None for v in found) else None


def _kill_worker(cluster: Cluster) -> None:
    assert cluster.kill_workers() >= 1


def _kill_taskmanager(cluster: Cluster) -> None:
    cluster.taskmanagers[0].kill()
    cluster.taskmanagers[0].start()


def _kill_jobmanager(cluster: Cluster) -> None:
    cluster.flink.kill()
    cluster.flink.start()


def _kill_pool(cluster: Cluster) -> None:
    cluster.pool.kill()
    cluster.pool.start()


def test_a_job_goes_on_from_its_savepoint_with_more_workers_and_rocksdb(
    cluster: Cluster, topic: Topic, archive: Archive, words: list[str], port: int, tmp_path: Path
) -> None:
    words += ["--state_backend=rocksdb", f"--state_backend_storage_path=file://{tmp_path}/checkpoints"]
    topic.produce(MESSAGES // 2)
    job = cluster.submit("persist", *words, parallelism=2)
    wait_for(archive, 1)
    savepoint = cluster.rest.savepoint(job, stop=True)
    cluster.wait(job, "FINISHED")
    topic.produce(MESSAGES - topic.count)
    job = cluster.restore(savepoint, tmp_path / "job.jar", "persist", *words, parallelism=4)
    vertices = cluster.rest.vertices(job)
    assert max(vertex["parallelism"] for vertex in vertices) == 4
    wait_for(archive, topic.count)
    check_exact(archive, topic)
    assert len(cluster.workers()) == len(cluster.taskmanagers)
    _check_numbers(cluster, port, topic)
    assert "RocksDB" in requests.get(f"{cluster.flink.url}/v1/jobs/{job}/checkpoints/config", timeout=30).text
    assert wait_until(lambda: cluster.rest.counters(job).get("messages"), 60, "figures") <= MESSAGES


@pytest.fixture(params=_OLD_RELEASES, ids=lambda path: path.stem)
def old_release(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An earlier Persistor: the first one, and the one whose modules were not yet in rooms."""
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path / "old")
    return tmp_path / "old"


def test_a_savepoint_of_an_older_release_is_taken_over(
    cluster: Cluster, topic: Topic, archive: Archive, words: list[str], old_release: Path, tmp_path: Path
) -> None:
    topic.produce(20_000)
    words.append("--shards=4")
    with WorkerPool(code=old_release) as pool:
        old = replace(cluster, pool=pool)
        # What the old release did not ask for by itself.
        needs = ["--flink_submit_uber_jar", "--finish_bundle_before_checkpointing"]
        job = old.submit("persist", *words, *needs, code=old_release)
        wait_for(archive, 1)
        savepoint = cluster.rest.savepoint(job, stop=True)
        cluster.wait(job, "FINISHED")
    topic.produce(20_000)
    cluster.restore(savepoint, tmp_path / "job.jar", "persist", *words)
    wait_for(archive, topic.count)
    check_exact(archive, topic)


@pytest.fixture
def own_workers() -> Sequence[str]:
    """The TaskManager starts them itself, by Beam's boot program."""
    variables = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1",
    }
    try:
        config = {"command": str(BOOT.install()), "env": variables}
    except Unavailable as missing:
        pytest.skip(str(missing))
    return "--environment_type=PROCESS", f"--environment_config={json.dumps(config)}"


def test_every_shard_is_read_although_checkpoints_come_while_the_job_starts(
    cluster: Cluster, topic: Topic, archive: Archive, words: list[str], own_workers: Sequence[str]
) -> None:
    """Without ``finish_bundle_before_checkpointing`` the shards themselves stay in the first operator."""
    topic.produce(4000)
    own = replace(cluster, environment=own_workers)
    own.submit("persist", *words, "--checkpointing_interval=50", "--shards=32")
    wait_for(archive, topic.count)
    check_exact(archive, topic)
    assert cluster.workers() == []


def test_a_job_that_has_to_wait_for_slots_says_so_and_leaves_no_jar(
    cluster: Cluster, topic: Topic, archive: Archive, words: list[str]
) -> None:
    before = _jars(cluster)
    job, told = cluster.leave("persist", *words, parallelism=5)
    assert "Flink has 4 of 4 slots free and the job takes 5: waiting until they are free." in told
    assert f"Submitted to {cluster.flink.url} as job {job}." in told
    assert _jars(cluster) == before


def _jars(cluster: Cluster) -> list[str]:
    answer = requests.get(f"{cluster.flink.url}/v1/jars", timeout=30)
    return sorted(file["id"] for file in answer.json()["files"])


def test_a_cluster_that_is_away_is_named(words: list[str]) -> None:
    away = ["--runner=FlinkRunner", f"--flink_master=127.0.0.1:{free_port()}"]
    settings, beam_words = parse(PersistSettings, [*words, *away])
    with pytest.raises(PermanentError, match=r"^FlinkRunner: .*Connection refused"):
        run(settings, beam_words)
