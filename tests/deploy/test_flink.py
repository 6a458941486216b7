"""templates/flink: the documents and the command that makes their jar fit together."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.options import PersistSettings, parse
from resubmit_api.launchers.flink import ENTRY

_TEMPLATE = Path(__file__).resolve().parents[2] / "templates" / "flink" / "persist.yaml"


@pytest.fixture
def text() -> str:
    return _TEMPLATE.read_text(encoding="utf-8")


@pytest.fixture
def documents(text: str) -> dict[str, Any]:
    return {one["kind"]: one["spec"] for one in yaml.safe_load_all(text)}


def test_the_job_runs_on_the_deployment_with_the_class_that_reads_its_jar(
    documents: dict[str, Any],
) -> None:
    assert set(documents) == {"FlinkDeployment", "FlinkSessionJob"}
    assert documents["FlinkSessionJob"]["deploymentName"] == "persistor"
    assert documents["FlinkSessionJob"]["job"]["entryClass"] == ENTRY


def test_the_command_that_writes_the_jar_names_the_pool_of_workers_and_the_parallelism(
    text: str, documents: dict[str, Any], tmp_path: Path
) -> None:
    lines = [line.removeprefix("#").rstrip("\\ ") for line in text.splitlines()[2:4]]
    config = tmp_path / "persist.yaml"
    config.write_text("{source: 'kafka://h:9092/orders', lake: 's3://b/l', index: 'mongodb://h/d'}")
    words = shlex.split(" ".join(lines).replace("--config persist.yaml", f"--config {config}"))
    assert words[:2] == ["persistor", "persist"]
    _, beam = parse(PersistSettings, words[2:])
    workers = documents["FlinkDeployment"]["taskManager"]["podTemplate"]["spec"]["containers"][1]
    assert f"--environment_config=localhost:{workers['ports'][0]['containerPort']}" in beam
    assert f"--parallelism={documents['FlinkSessionJob']['job']['parallelism']}" in beam
