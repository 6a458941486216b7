"""``persistor index`` and ``persistor resubmit`` on a real Flink cluster, and the API that launches there."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from resubmit_api.app import close_app, create_app
from resubmit_api.serve import make_server
from resubmit_api.settings import ApiSettings
from tests.flink.archives import MESSAGES, PARTITIONS, Topic, check_exact, wait_for
from tests.flink.conftest import Cluster
from tests.integration.harness import Archive, Persist
from tests.servers import free_port, wait_until
from tests.servers.flink import job_server_jar
from tests.servers.flink_rest import WholeRest
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB
from transforms.errors import PermanentError, PersistorError, TransientError
from transforms.lake import Lake

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def archive(mongodb: MongoDB, tmp_path: Path) -> Archive:
    url = f"{mongodb.url.rpartition('/')[0]}/{tmp_path.name[-30:]}"
    return Archive(Lake(f"file://{tmp_path}/lake"), url)


@pytest.fixture
def topic(kafka: Kafka) -> Topic:
    return Topic(kafka)


@contextmanager
def _persisting(topic: Topic, archive: Archive, log: Path, **options: str) -> Iterator[Persist]:
    source, lake = topic.url, archive.lake.url
    with Persist(log, source=source, lake=lake, batch_messages="5000", **options) as persist:
        yield persist
        persist.drain()


def test_the_index_is_made_by_workers_in_the_submitting_process_which_outlasts_the_jobmanager(
    cluster: Cluster, kafka: Kafka, topic: Topic, archive: Archive, tmp_path: Path
) -> None:
    metadata = f"{kafka.url}/{kafka.create_topic(f'{topic.name}-meta', partitions=2)}"
    words = {
        "runner": "FlinkRunner",
        "flink_master": cluster.flink.url,
        "flink_job_server_jar": str(job_server_jar()),
        "environment_type": "LOOPBACK",
        "checkpointing_interval": 1000,
        "shards": 4,
        "job_name": f"index-{topic.name}",
    }
    config = tmp_path / "index.yaml"
    config.write_text(yaml.safe_dump(words))
    topic.produce(20_000)
    with _persisting(topic, archive, tmp_path / "persist", metadata=metadata, index="none"):
        index = Persist(
            tmp_path / "index", "index", config=str(config), metadata=metadata, index=archive.index_url
        )
        with index:
            wait_until(lambda: bool(index.pid) and archive.indexed() >= 10_000, 300, "the first half")
            topic.produce(10_000)
            wait_until(lambda: bool(index.pid) and archive.indexed() == topic.count, 300, "the rest")
            job = cluster.rest.find(f"index-{topic.name}")
            assert job is not None
            assert Path(cluster.rest.savepoint(job).removeprefix("file:")).is_dir()
            assert cluster.rest.state(job) == "RUNNING"
            with cluster.flink.killed():
                pass
            wait_until(lambda: _runs(cluster, job), 120, "the job to be taken over")
            topic.produce(10_000)
            wait_until(lambda: bool(index.pid) and archive.indexed() == topic.count, 300, "what came later")
            cluster.cancel(job)
            assert index.ends(240) == 1
    assert f"could ask Flink for job {job} after" in index.output()
    assert "persistor index: FlinkRunner: " in index.output()
    assert "CANCELLED" in index.output()
    check_exact(archive, topic)


def _runs(cluster: Cluster, job: str) -> bool:
    try:
        return cluster.rest.state(job) == "RUNNING"
    except PersistorError:
        return False  # nobody answers yet, or does not know it yet


def test_a_command_that_waits_says_why_its_job_does_not_get_on(
    cluster: Cluster, topic: Topic, archive: Archive, tmp_path: Path
) -> None:
    nobody, name = f"127.0.0.1:{free_port()}", f"persist-{topic.name}"
    options = {
        "source": topic.url,
        "lake": archive.lake.url,
        "index": archive.index_url,
        "runner": "FlinkRunner",
        "flink_master": cluster.flink.url,
        "flink_job_server_jar": str(job_server_jar()),
        "environment_type": "EXTERNAL",
        "environment_config": nobody,
        "job_name": name,
    }
    with Persist(tmp_path / "persist", **options) as persist:
        said = "a task of the job failed on Flink: "
        wait_until(lambda: bool(persist.pid) and said in persist.output(), 120, "the reason")
        job = cluster.rest.find(name)
        assert job is not None
        cluster.cancel(job)
        assert persist.ends(240) == 1
    assert nobody in persist.output()


def test_the_api_has_a_large_selection_sent_by_flink_exactly_once(
    cluster: Cluster, kafka: Kafka, topic: Topic, archive: Archive, tmp_path: Path
) -> None:
    topic.produce(MESSAGES)
    with _persisting(topic, archive, tmp_path / "persist", index=archive.index_url) as persist:
        wait_for(archive, topic.count, persist)
    kafka.create_topic(f"{topic.name}-again", partitions=PARTITIONS)
    with _api(cluster, kafka, archive, tmp_path) as api:
        selection = {"sources": [topic.name]}
        body = {"destination": "main", "topic": f"{topic.name}-again", "selection": selection}
        answer = requests.post(f"{api}/v1/resubmissions", json=body, timeout=30)
        assert answer.status_code == 202, answer.text
        id = answer.json()["id"]
        first = wait_until(lambda: cluster.rest.find(f"persistor-{id}"), 300, "the job on Flink")
        _kill_keeper(archive, id)  # another process goes on, and not beside what this one has left
        second = wait_until(lambda: _other(cluster.rest.find(f"persistor-{id}"), first), 300, "another")
        assert cluster.rest.state(first) == "CANCELED"
        wait_until(lambda: cluster.rest.state(second) == "RUNNING", 240, "it to run")
        cluster.kill_workers()  # their lanes go on where their transactions stand
        row = wait_until(lambda: _ended(api, id), 400, "the end of the job", pause=1)
    assert row["state"] == "COMPLETED", row
    assert row["progress"]["published"] == topic.count
    again = Archive(Lake(f"file://{tmp_path}/again"), f"sqlite://{tmp_path}/again.db")
    copy = Topic.of(kafka, f"{topic.name}-again", topic.count)
    with _persisting(copy, again, tmp_path / "again-log", index=again.index_url) as persist:
        wait_for(again, copy.count, persist)
    check_exact(again, copy, positions=False)


@contextmanager
def _api(cluster: Cluster, kafka: Kafka, archive: Archive, tmp_path: Path) -> Iterator[str]:
    """The service in this process; its jobs run on Flink."""
    settings = ApiSettings(
        index=archive.index_url,
        lakes=(archive.lake.url,),
        destination_urls=(("main", kafka.url),),
        jobs_directory=tmp_path / "jobs",
        launcher="flink",
        launcher_config={
            "flink_master": cluster.flink.url,
            "flink_job_server_jar": str(job_server_jar()),
            "environment_type": "EXTERNAL",
            "environment_config": cluster.pool.url,
            "parallelism": "2",
        },
    )
    app = create_app(settings)
    server = make_server(app, host="127.0.0.1", port=0)
    threading.Thread(target=server.run, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        server.close()
        close_app(app)


def _kill_keeper(archive: Archive, id: str) -> None:
    index = archive.open_index()
    row = index.get_job(id)
    index.close()
    assert row is not None
    os.kill(row["run"]["pid"], signal.SIGKILL)


def _other(found: str | None, than: str) -> str | None:
    return found if found != than else None


def _ended(api: str, id: str) -> dict[str, Any] | None:
    row: dict[str, Any] = requests.get(f"{api}/v1/resubmissions/{id}", timeout=30).json()
    return row if row["state"] in {"COMPLETED", "FAILED", "CANCELLED"} else None


def test_an_unknown_job_is_refused_and_an_absent_cluster_may_come_back(cluster: Cluster) -> None:
    with pytest.raises(PermanentError, match="404"):
        cluster.rest.state("0" * 32)
    assert cluster.rest.find("persistor-nothing") is None
    with pytest.raises(TransientError, match="does not answer: ConnectionError"):
        WholeRest(f"http://127.0.0.1:{free_port()}").running()
