"""Jobs launched, looked at and ended through Dataflow's REST service."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.oauth2.credentials import Credentials

from resubmit_api.launchers.dataflow import DataflowJobs, DataflowLauncher
from resubmit_api.launchers.subprocess import SubprocessLauncher
from tests._archive import archive
from tests._messages import row, table
from tests.servers import free_port, wait_until
from tests.servers.dataflow import TOKEN, Dataflow
from tests.servers.gcs import GCS
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB
from transforms import registry
from transforms.brokers import Destination
from transforms.errors import ConfigurationError, PermanentError, TransientError
from transforms.lake import Lake
from transforms.model import Trait
from transforms.replay import Options, freeze_plan
from transforms.replay.plans import new_job_id
from transforms.selection import Selection

_TEMPLATES = Path(__file__).parents[2] / "templates" / "dataflow"
_PERSIST = {
    "command": "persist",
    "sdk_container_image": "persistor-worker",
    "source": "kafka://broker:9092/orders",
    "lake": "gs://archive/kafka",
    "index": "mongodb://mongo/persistor",
}


@pytest.fixture(scope="module")
def service() -> Iterator[Dataflow]:
    with Dataflow(_TEMPLATES) as server:
        yield server


@pytest.fixture
def jobs(service: Dataflow) -> DataflowJobs:
    return _jobs(service.url)


def _jobs(endpoint: str, token: str = TOKEN) -> DataflowJobs:
    return DataflowJobs("my-project", "europe-west1", endpoint=endpoint, credentials=Credentials(token))


def _persist(jobs: DataflowJobs, name: str, **parameters: str) -> str:
    return jobs.launch("gs://templates/persist.json", name, {**_PERSIST, **parameters}, {"max_workers": 3})


def test_a_streaming_job_is_launched_and_drained(service: Dataflow, jobs: DataflowJobs) -> None:
    id = _persist(jobs, "archive")
    [*_, launched] = service.launched()
    assert launched["parameters"] == _PERSIST
    assert launched["environment"] == {"maxWorkers": 3}
    assert (jobs.state(id), jobs.find("archive")) == ("QUEUED", id)
    service.set_state(id, "RUNNING")
    jobs.drain(id)
    assert (jobs.state(id), jobs.find("archive")) == ("DRAINING", id)
    service.set_state(id, "DRAINED")
    assert (jobs.state(id), jobs.find("archive")) == ("DRAINED", None)
    with pytest.raises(PermanentError, match="has terminated"):
        jobs.drain(id)


def test_a_job_is_cancelled(service: Dataflow, jobs: DataflowJobs) -> None:
    id = _persist(jobs, "cancelled")
    jobs.cancel(id)
    assert jobs.state(id) == "CANCELLING"


def test_a_second_launch_of_a_name_finds_the_active_job(service: Dataflow, jobs: DataflowJobs) -> None:
    others = [_persist(jobs, f"other-{number}") for number in range(5)]
    id = _persist(jobs, "twice")
    assert _persist(jobs, "twice") == id  # although the list has several pages
    service.set_state(id, "FAILED")
    again = _persist(jobs, "twice")
    assert again not in {id, *others}


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"batch_age": "soon"}, "not matching their regexes ['batch_age']"),
        ({"processes": "4"}, "unrecognized ['processes']"),
        ({"format": "csv"}, "not matching their regexes ['format']"),
        ({"command": "index"}, "not matching their regexes ['command']"),
    ],
)
def test_parameters_that_the_template_refuses_are_reported(
    jobs: DataflowJobs, parameters: dict[str, str], told: str
) -> None:
    with pytest.raises(PermanentError) as refused:
        _persist(jobs, "refused", **parameters)
    assert told in str(refused.value)


def test_what_is_unknown_and_who_is_unknown_is_refused(service: Dataflow, jobs: DataflowJobs) -> None:
    with pytest.raises(PermanentError, match="no template"):
        jobs.launch("gs://templates/none.json", "none", {})
    with pytest.raises(PermanentError, match="not found"):
        jobs.state("2026-never")
    with pytest.raises(PermanentError, match="refused"):
        _jobs(service.url, "stolen").state("2026-never")


def test_a_service_that_is_away_is_waited_for() -> None:
    with pytest.raises(TransientError, match="does not answer"):
        _jobs(f"http://127.0.0.1:{free_port()}").state("any")


def _options(service: Dataflow, bucket: str) -> dict[str, str]:
    return {
        "project": "my-project",
        "region": "europe-west1",
        "temp_location": f"{bucket}/temp",
        "sdk_container_image": "registry/persistor-worker:1",
        # Beam speaks REST with a service of this name only.
        "dataflow_endpoint": service.url.replace("127.0.0.1", "localhost"),
    }


@pytest.fixture
def bucket(gcs: GCS, service: Dataflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where jobs are staged, with what lets processes of this test reach it."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service.account(tmp_path / "account.json")))
    return gcs.create_bucket(f"jobs-{new_job_id()}")


@pytest.fixture
def planned(mongodb: MongoDB, kafka: Kafka, tmp_path: Path) -> dict[str, Any]:
    """A job whose plan is stored, as the settings that its process gets."""
    lake, job = Lake(f"file://{tmp_path}/lake"), new_job_id()
    url = f"{mongodb.url}.{job}"
    index = registry.index(url).open(url)
    archive(lake, index, table(*(row(offset=number, publish_time=number) for number in range(20))))
    topic = kafka.create_topic(f"replay-{job}", **{"retention.ms": "-1"})
    destination = f"{kafka.url}/{topic}"
    freeze_plan(
        index,
        [lake],
        Selection(all=True),
        url=destination,
        destination=Destination(topic=topic, carries=Trait(255), partitions=1),
        options=Options(),
        job=job,
    )
    index.close()
    return {"resume": job, "index": url, "lake": [lake.url], "destination": destination}


@pytest.mark.timeout(600)
def test_a_resubmission_is_submitted_watched_and_not_left_behind(
    service: Dataflow, bucket: str, planned: dict[str, Any], tmp_path: Path
) -> None:
    processes = SubprocessLauncher(tmp_path / "jobs")
    launcher, job = DataflowLauncher(processes, _options(service, bucket)), planned["resume"]
    jobs = _jobs(service.url)

    run = launcher.start(job, planned)
    first = _submitted(launcher, run, jobs, job)
    service.set_state(first, "RUNNING")
    assert launcher.wait(run, 0.5) is None
    os.kill(run["pid"], signal.SIGKILL)  # the service of the API is gone, Dataflow works on
    assert wait_until(lambda: launcher.wait(run, 1.0) is not None, 60, "the loss to be seen")

    with ThreadPoolExecutor(1) as starting:
        started = starting.submit(launcher.start, job, planned)
        wait_until(lambda: jobs.state(first) == "CANCELLING", 60, "the job that was left to be cancelled")
        assert not started.done(), "two jobs would work on the same lanes"
        service.set_state(first, "CANCELLED")
        again = started.result(60)
    second = _submitted(launcher, again, jobs, job)
    assert second != first
    service.set_state(second, "DONE")
    wait_until(lambda: launcher.wait(again, 1.0) is not None, 90, "the process to end")


def _submitted(launcher: DataflowLauncher, run: dict[str, Any], jobs: DataflowJobs, job: str) -> str:
    def found() -> str | None:
        words = launcher.wait(run, 0.2)
        assert words is None, words
        return jobs.find(f"persistor-{job}")

    return wait_until(found, 120, "the job to be submitted")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"temp_location": ""}, "needs `launcher_config: temp_location="),
        ({"runner": "FlinkRunner"}, "the launcher sets that itself"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    service: Dataflow, bucket: str, tmp_path: Path, change: dict[str, str], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        DataflowLauncher(SubprocessLauncher(tmp_path / "jobs"), {**_options(service, bucket), **change})
