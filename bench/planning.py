"""Plans of large selections in MongoDB: the first rows, the whole plan and its memory, and a submission."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import requests
from pymongo import MongoClient

from bench.finding import fill_index, is_ready, planned
from bench.measure import Figure, Watched
from tests.servers import free_port, wait_until
from tests.servers.kafka import Kafka
from transforms import registry
from transforms.indexes import Index
from transforms.indexes.mongodb.replay_order import REPLAY_ORDER
from transforms.selection import Selection

__all__ = ["planning"]

_COLUMNS = [
    "id",
    "source",
    "incarnation",
    "partition",
    "offset",
    "publish_time",
    "size",
    "location",
    "position",
]
_EVERYTHING = Selection(all=True)


def planning(kafka: Kafka, index: str, count: int, directory: Path) -> Iterator[Figure]:
    """Fill an index, plan all of it along its replay order, and find the first rows without that index."""
    lake, topics = f"file://{directory}/lake", [kafka.create_topic(f"bench-{n}", 4) for n in range(2)]
    places = [f"--index={index}", f"--lake={lake}"]
    (directory / "lake").mkdir()
    store = registry.index(index).open(index)
    yield fill_index(store, 0, count, lake)
    yield _first_rows("first rows, along the index", store)
    yield _opened(store)
    yield planned(f"{count:,}", {"all": True}, [*places, f"--destination={kafka.url}/{topics[0]}"])
    yield _submitted(kafka, places, topics[1])
    with MongoClient(index) as client:
        client.get_default_database()["messages"].drop_index([(field, 1) for field in REPLAY_ORDER])
    yield _first_rows("first rows, sorted by the server", store)
    store.close()


def _first_rows(name: str, store: Index) -> Figure:
    started = time.monotonic()
    rows = len(next(iter(store.select(_EVERYTHING, _COLUMNS))))
    return Figure(name, rows, time.monotonic() - started, 0.0, 0.0, "in this process")


def _opened(store: Index) -> Figure:
    """What the first page shows; counted once before."""
    store.totals()
    started = time.monotonic()
    found = store.totals()
    return Figure(
        "totals by counters", sum(one.messages for one in found), time.monotonic() - started, 0.0, 0.0
    )


def _submitted(kafka: Kafka, places: list[str], topic: str) -> Figure:
    port = free_port()
    command = [sys.executable, "-m", "pipelines", "api", *places, f"--destination=main={kafka.url}"]
    api = Watched([*command, f"--port={port}"])
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: is_ready(port), 60, "the API")
    body = {"destination": "main", "topic": topic, "selection": {"all": True}}
    started = time.monotonic()
    answer = requests.post(f"{url}/v1/resubmissions", json=body, timeout=60)
    taken = time.monotonic() - started
    answer.raise_for_status()
    requests.post(f"{url}/v1/resubmissions/{answer.json()['id']}/cancel", json={}, timeout=60)
    page = json.dumps({"all": True})
    started = time.monotonic()
    requests.get(f"{url}/explore", params={"selection": page}, timeout=60).raise_for_status()
    opened = (time.monotonic() - started) * 1000
    api.stop()
    note = f"the answer to POST /v1/resubmissions; Explore opened in {opened:.0f} ms"
    return Figure("submission of all", 1, taken, api.used, api.peak, note)
