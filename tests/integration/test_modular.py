"""Two sites that share a broker and a bucket and nothing else, from the files of templates/modular."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.harness import log_of
from tests.integration.load import load_message
from tests.servers import free_port, wait_until
from tests.servers._s3 import PASSWORD, USER
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB
from tests.servers.seaweed import Seaweed

_TEMPLATES = Path(__file__).parents[2] / "templates" / "modular"
_SECONDS = 150.0


@dataclass
class Site:
    """The processes of one site: in a directory of their own, with an environment of their own."""

    directory: Path
    names: dict[str, str]
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def prepare(self, template: Path) -> None:
        """Copy the site's files, with the names of this test's servers for those of the example."""
        (self.directory / "tmp").mkdir(parents=True)
        for file in template.iterdir():
            text = file.read_text(encoding="utf-8")
            for name, real in self.names.items():
                text = text.replace(name, real)
            assert not re.search(r"\.example", text), "every name of the example has been replaced"
            (self.directory / file.name).write_text(text, encoding="utf-8")

    def start(self, command: str) -> None:
        with (self.directory / f"{command}.log").open("ab") as log:
            self._processes[command] = subprocess.Popen(
                [sys.executable, "-m", "pipelines", command, "--config", f"{command}.yaml"],
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, command: str, *words: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "pipelines", command, "--config", f"{command}.yaml", *words],
            cwd=self.directory,
            env=self._environment(),
            check=True,
            timeout=_SECONDS,
        )

    def lives(self) -> bool:
        """Fail where a process has ended by itself."""
        for command, process in self._processes.items():
            log = self.directory / f"{command}.log"
            assert process.poll() is None, f"{command} ended: {log.read_text(errors='replace')[-3000:]}"
        return True

    def stop(self) -> None:
        """All of them by SIGTERM, in good order."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        codes = {command: process.wait(_SECONDS) for command, process in self._processes.items()}
        self._processes.clear()
        assert set(codes.values()) == {0}, codes

    def kill(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def _environment(self) -> dict[str, str]:
        own = {"HOME": str(self.directory), "TMPDIR": str(self.directory / "tmp")}
        return {"PATH": os.environ["PATH"], "LAKE_KEY": USER, "LAKE_SECRET": PASSWORD, **own}


@dataclass
class Example:
    kafka: Kafka
    orders: str
    replay: str
    api: str
    a: Site
    b: Site

    def produce(self, first: int, last: int) -> None:
        messages = ({**load_message(number), "partition": number % 3} for number in range(first, last))
        self.kafka.produce(self.orders, messages)

    def indexed(self) -> int:
        """What site B has of the orders, by the plan of its own service."""
        assert self.b.lives()
        try:
            answer = requests.post(f"{self.api}/v1/plans", json=self._request(), timeout=30)
        except requests.ConnectionError:
            return 0  # it is starting
        return int(answer.json()["plan"]["messages"]) if answer.ok and answer.json()["plan"] else 0

    def resubmit(self) -> dict[str, Any]:
        """Everything of the orders, through site B's service, to a topic of its own."""
        answer = requests.post(f"{self.api}/v1/resubmissions", json=self._request(), timeout=60)
        assert answer.status_code == 202, answer.text
        address = f"{self.api}/v1/resubmissions/{answer.json()['id']}"

        def ended() -> dict[str, Any] | None:
            job: dict[str, Any] = requests.get(address, timeout=30).json()
            return job if job["state"] in {"COMPLETED", "FAILED"} else None

        return wait_until(ended, _SECONDS, "the resubmission")

    def _request(self) -> dict[str, Any]:
        return {"destination": "site-a", "topic": self.replay, "selection": {"sources": [self.orders]}}


@pytest.fixture
def example(kafka: Kafka, seaweed: Seaweed, mongodb: MongoDB, tmp_path: Path) -> Iterator[Example]:
    mark = uuid.uuid4().hex[:10]
    bucket, port = seaweed.create_bucket(f"modular-{mark}"), free_port()
    for topic in ("orders", "payments", "persistor-metadata", "persistor-dead-letters", "replay"):
        kafka.create_topic(f"{topic}-{mark}", partitions=3)
    names = {
        "kafka.site-a.example:9092": kafka.bootstrap,
        "orders,payments": f"orders-{mark},payments-{mark}",
        "/persistor-metadata": f"/persistor-metadata-{mark}",
        "/persistor-dead-letters": f"/persistor-dead-letters-{mark}",
        "s3://archive": bucket,
        "https://s3.example": seaweed.url,
        "eu-central-1": seaweed.config["region"],
        "mongodb://mongo.site-b.example/persistor": f"{mongodb.url.rsplit('/', 1)[0]}/modular{mark}",
        "port: 8080": f"port: {port}",
        "batch_age: 5s": "batch_age: 1s",
        "metrics_host: 127.0.0.1": "metrics_port: 0",
    }
    with ExitStack() as ending:
        sites = [Site(tmp_path / name, names) for name in ("site-a", "site-b")]
        for site in sites:
            site.prepare(_TEMPLATES / site.directory.name)
            ending.callback(site.kill)
        yield Example(kafka, f"orders-{mark}", f"replay-{mark}", f"http://127.0.0.1:{port}", *sites)


@pytest.mark.timeout(900)
def test_a_site_archives_and_another_one_indexes_and_sends_again(example: Example) -> None:
    a, b = example.a, example.b
    a.start("persist")
    b.start("index")
    b.start("api")
    example.produce(0, 3000)
    wait_until(lambda: a.lives() and example.indexed() == 3000, _SECONDS, "site B to know of all", pause=1.0)

    b.stop()  # the line is cut: site A goes on
    example.produce(3000, 5000)
    metadata = example.orders.replace("orders-", "persistor-metadata-")
    told = len(log_of(example.kafka, metadata))
    wait_until(
        lambda: a.lives() and len(log_of(example.kafka, metadata)) > told,
        _SECONDS,
        "site A to go on",
        pause=0.5,
    )
    b.start("index")
    b.start("api")
    wait_until(lambda: a.lives() and example.indexed() == 5000, _SECONDS, "site B to follow", pause=1.0)

    a.stop()  # and site B sends without it
    shutil.rmtree(a.directory)
    job = example.resubmit()
    assert (job["state"], job["mode"]) == ("COMPLETED", "job")
    assert job["progress"]["published"] == 5000
    assert _by_partition(example, example.replay) == _by_partition(example, example.orders)
    b.stop()
    b.run("expire", "--before=1d")  # a plan: nothing is that old


def _by_partition(example: Example, topic: str) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for (partition, _), message in sorted(log_of(example.kafka, topic).items()):
        found.setdefault(partition, []).append(message)
    return found
