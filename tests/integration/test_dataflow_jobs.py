"""Jobs launched, looked at and ended through Dataflow's REST service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.oauth2.credentials import Credentials

from resubmit_api.launchers.dataflow import DataflowJobs, DataflowLauncher
from tests.servers import free_port
from tests.servers.dataflow import TOKEN, Dataflow
from transforms.errors import PermanentError, TransientError

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
def test_parameters_that_the_template_refuses_are_told(
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


def test_the_launcher_runs_the_lanes_of_a_stored_plan(service: Dataflow, jobs: DataflowJobs) -> None:
    launcher = DataflowLauncher(jobs, "gs://templates/resubmit.json", "persistor-worker", {"num_workers": 2})
    settings = {
        "resume": "01m84a12gphyayw3tvvk91n06w",
        "index": "mongodb://mongo/persistor",
        "lake": ["gs://archive/kafka", "gs://archive/nats"],
        "lake_config": {},
        "destination": "kafka://broker:9092/orders-replay",
        "destination_config": {"sasl.username": "me", "sasl.password": "${env:KAFKA_PASSWORD}"},
    }
    run = launcher.start(settings["resume"], settings)
    [*_, launched] = service.launched()
    assert launched["jobName"] == "persistor-01m84a12gphyayw3tvvk91n06w"
    assert launched["environment"] == {"numWorkers": 2}
    assert launched["parameters"] == {
        "command": "resubmit",
        "sdk_container_image": "persistor-worker",
        "resume": "01m84a12gphyayw3tvvk91n06w",
        "lake": '["gs://archive/kafka", "gs://archive/nats"]',
        "destination_config": '["sasl.username=me", "sasl.password=${env:KAFKA_PASSWORD}"]',
    }
    assert launcher.start(settings["resume"], settings) == run
    assert launcher.wait(run, 0.2) is None
    service.set_state(run["dataflow"], "DONE")
    assert launcher.wait(run, 0.2) == ""
    service.set_state(run["dataflow"], "FAILED")
    assert "failed" in (launcher.wait(run, 0.2) or "")
