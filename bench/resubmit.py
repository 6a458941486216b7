"""Sending messages again: a time range by the command, single ones through the running API."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import requests

from bench.archive import archive, fill
from bench.measure import Figure, Watched
from tests.servers import free_port, wait_until
from tests.servers.kafka import Kafka

__all__ = ["resubmit", "single"]

_ALWAYS = {"published_from": "2000-01-01T00:00:00Z", "published_to": "2100-01-01T00:00:00Z"}


def resubmit(kafka: Kafka, index: str, count: int, size: int, directory: Path) -> list[Figure]:
    """Archive and index messages, then send all of them, selected by source and time, to another topic."""
    topic, _ = fill(kafka, count, size)
    archive("loop", kafka, topic, count, directory, index=index)
    target = kafka.create_topic(f"{topic}-replay", 4, retention_ms=-1)
    places = [f"--index={index}", f"--lake=file://{directory}/lake", f"--destination={kafka.url}/{target}"]
    selection = json.dumps({"sources": [topic], **_ALWAYS})
    started = time.monotonic()
    command = [sys.executable, "-m", "pipelines", "resubmit", "--json", *places]
    watched = Watched([*command, f"--selection={selection}"])
    report = json.loads(watched.output())["report"]
    whole = time.monotonic() - started
    name = index.partition(":")[0]
    sent = report["published"]
    return [
        Figure(
            f"{name}, publishing", sent, report["seconds"], watched.used, watched.peak, "CPU of the whole"
        ),
        Figure(f"{name}, the whole command", sent, whole, watched.used, watched.peak, "with start and plan"),
    ]


def single(kafka: Kafka, index: str, count: int, directory: Path, requests_sent: int = 100) -> Figure:
    """One message by its id, over and over, until the API says that the broker has it."""
    topic, _ = fill(kafka, count, 200, partitions=1)
    archive("loop", kafka, topic, count, directory, index=index)
    target = kafka.create_topic(f"{topic}-one")
    port = free_port()
    places = [f"--index={index}", f"--lake=file://{directory}/lake", f"--destination=main={kafka.url}"]
    watched = Watched([sys.executable, "-m", "pipelines", "api", *places, f"--port={port}"])
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: _ready(url), 60, "the API")
    ids = [f"{topic}_0_{number * count // requests_sent}" for number in range(requests_sent)]
    with requests.Session() as session:
        _send(session, url, target, ids[0])
        times = [_send(session, url, target, id) for id in ids]
    watched.stop()
    median, slow = statistics.median(times) * 1000, statistics.quantiles(times, n=20)[-1] * 1000
    note = f"median {median:.1f} ms, 95 % within {slow:.1f} ms, {count:,} messages indexed"
    name = f"{index.partition(':')[0]}, one by id"
    return Figure(name, requests_sent, sum(times), watched.used, watched.peak, note)


def _ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=5).status_code == 200
    except OSError:
        return False


def _send(session: requests.Session, url: str, topic: str, id: str) -> float:
    body = {"destination": "main", "topic": topic, "selection": {"ids": [id]}}
    started = time.perf_counter()
    answer = session.post(f"{url}/v1/resubmissions", json=body, timeout=60)
    taken = time.perf_counter() - started
    if answer.status_code != 202 or answer.json()["state"] != "COMPLETED":
        raise RuntimeError(f"{answer.status_code}: {answer.text[:500]}")
    return taken
