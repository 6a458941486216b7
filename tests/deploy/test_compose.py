"""compose.yaml: read by Docker's own Compose, its commands read by ours, and run on real servers."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import boto3
import pymongo
import pytest
import requests
import yaml

from resubmit_api.auth.tokens import Role, Tokens
from tests._processes import spawned
from tests.conftest import running
from tests.deploy.commands import parsed
from tests.integration.harness import Archive, log_of
from tests.servers import Unavailable, free_port, wait_until
from tests.servers._s3 import REGION
from tests.servers.kafka import Kafka
from tests.servers.minio import MinIO
from tests.servers.mongodb import MongoDB
from tests.servers.programs import COMPOSE
from transforms.lake import Lake

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "templates"
FILE = TEMPLATES / "compose.yaml"


def _config() -> dict[str, Any]:
    """The file as written; what Compose makes of it is the same with long names."""
    return yaml.safe_load(FILE.read_text())


def _ours() -> dict[str, Any]:
    return {name: one for name, one in _config()["services"].items() if name in {"persist", "index", "api"}}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    subprocess.run(["sh", TEMPLATES / "secrets.sh", folder], check=True)
    return folder


def test_compose_accepts_it_without_a_warning() -> None:
    try:
        compose = COMPOSE.install()
    except Unavailable as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    command = [compose, "-f", FILE, "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    services = json.loads(done.stdout)["services"]
    assert {"kafka", "mongo", "minio", "persist", "index", "api", "prometheus", "grafana"} <= services.keys()
    for name in ("persist", "index", "api"):
        one = services[name]
        assert (one["read_only"], one["cap_drop"]) == (True, ["ALL"])
        limit = 2 << 30 if name == "api" else 1280 << 20
        assert (one["stop_grace_period"], one["mem_limit"]) == ("3m0s", str(limit))
        assert one["build"]["dockerfile"] == "templates/Dockerfile"
        assert (Path(one["build"]["context"]) / one["build"]["dockerfile"]).exists()
    for name, one in services.items():
        for mount in one.get("volumes", []):
            assert mount["type"] == "volume" or Path(mount["source"]).exists(), (name, mount["source"])
        for port in one.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", f"{name} is open to other machines"


@pytest.mark.parametrize("name", sorted(_ours()))
def test_our_commands_are_valid(name: str) -> None:
    settings = parsed([word.replace("$$", "$") for word in _ours()[name]["command"]])
    assert settings.command == name


def test_every_image_is_pinned_and_every_server_has_a_health_check() -> None:
    once = {"topics", "bucket"}
    for name, one in _config()["services"].items():
        assert re.search(r":(v?\d+\.\d+\.\d+|RELEASE\.[0-9TZ-]+)$", one["image"]), one["image"]
        assert name in once or name in _ours() or "healthcheck" in one, name
        assert name in once or one["restart"] == "unless-stopped"


def test_every_secret_that_is_read_is_given_and_made(secrets: Path) -> None:
    config = _config()
    made = {Path(one["file"]).name for one in config["secrets"].values()}
    assert made <= {path.name for path in secrets.iterdir()}
    for name, one in config["services"].items():
        read = set(re.findall(r"/run/secrets/([a-z_]+)", json.dumps(one)))
        given = set(one.get("secrets", []))
        assert read <= given <= config["secrets"].keys(), name
    assert not re.search(r"password[=:] *[A-Za-z0-9]", FILE.read_text()), "a secret stands in the file"


def test_secrets_are_made_once_and_differ(secrets: Path) -> None:
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    subprocess.run(["sh", TEMPLATES / "secrets.sh", secrets], check=True)
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before
    assert len(set(before.values())) == len(before)
    assert (secrets.stat().st_mode & 0o777, (secrets / "api_tokens").stat().st_mode & 0o777) == (0o700, 0o644)
    tokens = Tokens(str(secrets / "api_tokens"))
    for name, role in {"operator": Role.OPERATOR, "prometheus": Role.VIEWER}.items():
        caller = tokens.find(hashlib.sha256(before[f"{name}_token"]).hexdigest())
        assert caller is not None
        assert (caller.name, caller.role) == (name, role)


def test_a_token_that_was_renewed_alone_is_reported(tmp_path: Path) -> None:
    make = ["sh", TEMPLATES / "secrets.sh", tmp_path]
    subprocess.run(make, check=True)
    (tmp_path / "operator_token").unlink()
    done = subprocess.run(make, capture_output=True, text=True, check=False)
    advice = "add its line, or delete api_tokens to have it made anew."
    told = f"{tmp_path}/api_tokens does not list operator_token: {advice}\n"
    assert (done.returncode, done.stderr) == (1, told)
    (tmp_path / "api_tokens").unlink()
    subprocess.run(make, check=True)


def test_secrets_are_made_where_sha256_has_the_name_of_macos(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("base64", "chmod", "cut", "dirname", "grep", "head", "mkdir", "mv", "tr"):
        (programs / name).symlink_to(shutil.which(name) or pytest.fail(f"{name} is missing"))
    (programs / "shasum").write_text(f'#!/bin/sh\n[ "$*" = "-a 256" ] && exec {shutil.which("sha256sum")}\n')
    (programs / "shasum").chmod(0o755)
    folder = tmp_path / "secrets"
    shell = ["/bin/sh", TEMPLATES / "secrets.sh", folder]
    subprocess.run(shell, check=True, env={"PATH": str(programs)})
    token = (folder / "operator_token").read_bytes()
    assert Tokens(str(folder / "api_tokens")).find(hashlib.sha256(token).hexdigest()) is not None


@pytest.mark.parametrize("target", ["up", "down"])
def test_make_says_what_is_missing_where_docker_is(target: str, tmp_path: Path) -> None:
    make = shutil.which("make") or pytest.fail("make is missing")
    done = subprocess.run(
        [make, "--no-print-directory", target],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (
        2,
        "This needs Docker with its plugin Compose 2: 'docker compose version' has to answer.\n",
    )


class _Minio(MinIO):
    """One whose only user is the one that the secrets name."""

    secrets: Path

    def environment(self) -> Mapping[str, str]:
        names = {"MINIO_ROOT_USER": "lake_user", "MINIO_ROOT_PASSWORD": "lake_password"}
        own = {variable: (self.secrets / name).read_text() for variable, name in names.items()}
        return {**super().environment(), **own}


@pytest.fixture
def minio_of_secrets(secrets: Path) -> Iterator[_Minio]:
    kind = type("Minio", (_Minio,), {"secrets": secrets})
    for minio in running(kind):
        key, password = ((secrets / name).read_text() for name in ("lake_user", "lake_password"))
        client = boto3.client(
            "s3",
            endpoint_url=minio.url,
            aws_access_key_id=key,
            aws_secret_access_key=password,
            region_name=REGION,
        )
        client.create_bucket(Bucket="persistor")
        yield minio


@pytest.mark.timeout(600)
def test_its_commands_archive_index_and_resubmit(
    kafka: Kafka, mongodb: MongoDB, minio_of_secrets: _Minio, secrets: Path, tmp_path: Path
) -> None:
    """The three commands as they stand, with nothing but addresses and ports of this machine put in."""
    password = (secrets / "mongo_password").read_text()
    users: pymongo.MongoClient[Any] = pymongo.MongoClient(mongodb.url)
    users.admin.command("createUser", "persistor", pwd=password, roles=["root"])
    for topic in ("persistor-metadata", "persistor-dead-letters", "orders-replay"):
        kafka.create_topic(topic)
    kafka.create_topic("orders", partitions=4)
    kafka.produce("orders", [{"key": b"k%d" % (n % 9), "value": b"%d" % n} for n in range(2000)])
    places = {
        "kafka://kafka:9092/*": f"{kafka.url}/orders,orders-replay",
        "kafka://kafka:9092": kafka.url,
        "http://minio:9000": minio_of_secrets.url,
        "mongo:27017": f"127.0.0.1:{mongodb.port}",
        "/run/secrets/": f"{secrets}/",
        "$$": "$",
    }
    port = free_port()
    own = {"persist": "--metrics_port=0", "index": "--metrics_port=0", "api": f"--port={port}"}
    with ExitStack() as stack:
        for name, one in _ours().items():
            stack.enter_context(_command([*_replaced(one["command"], places), own[name]], tmp_path / name))
        stack.callback(users.drop_database, "persistor")
        api = f"http://127.0.0.1:{port}"
        header = {"Authorization": f"Bearer {(secrets / 'operator_token').read_text()}"}
        selection = {"sources": ["orders"]}
        request = {"destination": "kafka", "topic": "orders-replay", "selection": selection}

        index = f"mongodb://persistor:{password}@127.0.0.1:{mongodb.port}/persistor?authSource=admin"
        archive = Archive(Lake(f"file://{tmp_path}/unused"), index)
        wait_until(
            lambda: _up(api) and archive.indexed() == 2000, 300, "the messages in the index", pause=0.5
        )
        assert requests.post(f"{api}/v1/resubmissions", json=request, timeout=30).status_code == 401
        job = requests.post(f"{api}/v1/resubmissions", json=request, headers=header, timeout=30).json()
        place = f"{api}/v1/resubmissions/{job['id']}"
        states = {"COMPLETED", "FAILED"}
        state = wait_until(
            lambda: {requests.get(place, headers=header, timeout=30).json()["state"]} & states, 240, "the job"
        )
        assert state == {"COMPLETED"}
    assert len(log_of(kafka, "orders-replay")) == 2000


def _up(api: str) -> bool:
    try:
        return requests.get(f"{api}/readyz", timeout=5).ok
    except OSError:
        return False


def _replaced(words: list[str], places: Mapping[str, str]) -> list[str]:
    for old, new in places.items():
        words = [word.replace(old, new) for word in words]
    return words


@contextmanager
def _command(words: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        place = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        with spawned([sys.executable, "-m", "pipelines", *words], **place) as process:
            yield
            process.terminate()
            assert process.wait(60) == 0, log.read_text()
