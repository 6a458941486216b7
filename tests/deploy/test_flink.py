"""templates/flink: its documents and the command that makes their jar fit together, also for index."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.settings.declared import settings_of
from pipelines.settings.parsing import parse
from pipelines.settings.streaming import IndexSettings, PersistSettings
from tests.servers.flink_rest import ENTRY

_TEMPLATE = Path(__file__).resolve().parents[2] / "templates" / "flink" / "persist.yaml"
_SETTINGS: dict[str, Any] = {
    "persist": (
        PersistSettings,
        "{source: 'kafka://h:9092/orders', lake: 's3://b/l', index: 'mongodb://h/d'}",
    ),
    "index": (IndexSettings, "{metadata: 'kafka://h:9092/meta', index: 'mongodb://h/d'}"),
}


@pytest.fixture(params=["persist", "index"])
def command(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def text(command: str) -> str:
    text = _TEMPLATE.read_text(encoding="utf-8")
    if command == "persist":
        return text
    _, program, _ = re.split(r"sed '(.*)' persist\.yaml", text.splitlines()[1])
    for step in program.split(";"):
        _, old, new, _ = step.split("/")
        text = re.sub(old, new, text)
    return text


@pytest.fixture
def documents(text: str) -> dict[str, Any]:
    return {one["kind"]: one["spec"] for one in yaml.safe_load_all(text)}


def _main_and_workers(documents: dict[str, Any]) -> list[dict[str, Any]]:
    containers: list[dict[str, Any]] = documents["FlinkDeployment"]["taskManager"]["podTemplate"]["spec"][
        "containers"
    ]
    return containers


def test_the_job_runs_on_the_deployment_with_the_class_that_reads_its_jar(
    documents: dict[str, Any], command: str
) -> None:
    assert set(documents) == {"FlinkDeployment", "FlinkSessionJob", "PodMonitor"}
    assert documents["FlinkSessionJob"]["deploymentName"] == f"persistor-{command}"
    assert documents["FlinkSessionJob"]["job"]["entryClass"] == ENTRY


def test_the_command_that_writes_the_jar_names_the_pool_of_workers_and_the_parallelism(
    text: str, documents: dict[str, Any], command: str, tmp_path: Path
) -> None:
    lines = [line.removeprefix("#").rstrip("\\ ") for line in text.splitlines()[2:4]]
    kind, settings = _SETTINGS[command]
    config, jar = tmp_path / f"{command}.yaml", tmp_path / "JAR"
    config.write_text(settings)
    jar.touch()
    typed = (
        " ".join(lines).replace(f"--config {command}.yaml", f"--config {config}").replace("=JAR", f"={jar}")
    )
    words = shlex.split(typed)
    assert words[:2] == ["persistor", command]
    _, beam = parse(kind, words[2:])
    assert f"--environment_config=localhost:{_port(documents, 'pool')}" in beam
    assert f"--parallelism={documents['FlinkSessionJob']['job']['parallelism']}" in beam


def test_every_taskmanager_has_a_worker_which_prometheus_finds(
    documents: dict[str, Any], command: str
) -> None:
    cluster = documents["FlinkDeployment"]
    slots = int(cluster["flinkConfiguration"]["taskmanager.numberOfTaskSlots"])
    assert cluster["taskManager"]["replicas"] * slots == documents["FlinkSessionJob"]["job"]["parallelism"]
    labels = cluster["taskManager"]["podTemplate"]["metadata"]["labels"]
    assert documents["PodMonitor"]["selector"]["matchLabels"].items() <= labels.items()
    assert documents["PodMonitor"]["podMetricsEndpoints"] == [{"port": "metrics"}]
    default = next(one.default for one in settings_of(command) if one.name == "metrics_port")
    assert str(_port(documents, "metrics")) == default


def _port(documents: dict[str, Any], name: str) -> int:
    _, workers = _main_and_workers(documents)
    [port] = [port["containerPort"] for port in workers["ports"] if port["name"] == name]
    return int(port)


def test_a_pool_that_has_ended_is_started_again(documents: dict[str, Any]) -> None:
    """Flink's native mode has pods of TaskManagers that start no container again."""
    assert documents["FlinkDeployment"]["mode"] == "standalone"
    _, workers = _main_and_workers(documents)
    assert workers["livenessProbe"] == {"tcpSocket": {"port": "pool"}}


def test_what_opens_the_checkpoints_url_is_of_the_images_version(documents: dict[str, Any]) -> None:
    cluster = documents["FlinkDeployment"]
    places = [url for url in cluster["flinkConfiguration"].values() if "://" in url]
    assert {url.partition("://")[0] for url in places} == {"s3"}
    [main] = cluster["podTemplate"]["spec"]["containers"]
    version = cluster["image"].partition(":")[2]
    assert main["name"] == _main_and_workers(documents)[0]["name"] == "flink-main-container"
    assert main["env"] == [{"name": "ENABLE_BUILT_IN_PLUGINS", "value": f"flink-s3-fs-presto-{version}.jar"}]
    assert cluster["flinkVersion"] == f"v{'_'.join(version.split('.')[:2])}"
