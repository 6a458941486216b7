"""Searching and planning on an index that grows to millions of entries."""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import requests

from bench.measure import Figure, Watched
from tests.servers import free_port, wait_until
from tests.servers.kafka import Kafka
from transforms import registry
from transforms.indexes import Index
from transforms.model import ENTRY_SCHEMA

__all__ = ["fill_index", "is_ready", "planned", "searching"]

_SOURCES, _PARTITIONS, _CUSTOMERS = 20, 4, 100_000
_FIRST_US = 1_767_225_600_000_000
_APART_US = 260_000
"""Microseconds between messages: ten millions are thirty days."""
_HOUR_US = 3_600_000_000
_ROWS = 20_000
_ASKED = 50
_PLANNED = 1_000_000
_random = random.Random(1)


def searching(kafka: Kafka, index: str, sizes: list[int], directory: Path) -> Iterator[Figure]:
    """For each size: fill the index up to it, search through the running API, and plan a resubmission."""
    lake, target = f"file://{directory}/lake", kafka.create_topic("bench-plan", 4, retention_ms=-1)
    places = [f"--index={index}", f"--lake={lake}"]
    filled, port = 0, free_port()
    store = registry.index(index).open(index)
    api = Watched(
        [
            sys.executable,
            "-m",
            "pipelines",
            "api",
            *places,
            f"--destination=main={kafka.url}",
            f"--port={port}",
        ]
    )
    wait_until(lambda: is_ready(port), 60, "the API")
    for size in sizes:
        yield fill_index(store, filled, size, lake)
        filled = size
        for name, question in _questions(size).items():
            yield _asked(f"{size:,}: {name}", port, question, api)
        selection = _between(size, min(size, _PLANNED)) | {"sources": _names()}
        yield planned(f"{size:,}", selection, [*places, f"--destination={kafka.url}/{target}"])
    api.stop()
    store.close()


def _names() -> list[str]:
    return [f"source-{number:02}" for number in range(_SOURCES)]


def fill_index(store: Index, first: int, end: int, lake: str) -> Figure:
    """Insert entries number ``first`` to ``end``."""
    started = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        starts = range(first, end, _ROWS)
        list(threads.map(lambda start: store.insert(_entries(start, min(_ROWS, end - start), lake)), starts))
    return Figure(
        f"{end:,}: inserted", end - first, time.monotonic() - started, 0.0, 0.0, "server's CPU not counted"
    )


def _entries(first: int, count: int, lake: str) -> pa.Table:
    """Entries number ``first`` to ``first + count``, spread evenly over sources and partitions."""
    numbers = np.arange(first, first + count)
    source, rest = numbers % _SOURCES, numbers // _SOURCES
    partition, offset = rest % _PARTITIONS, rest // _PARTITIONS
    names = pa.array([f"source-{s:02}" for s in source.tolist()])
    ids = [
        f"source-{s:02}_{p}_{o}"
        for s, p, o in zip(source.tolist(), partition.tolist(), offset.tolist(), strict=True)
    ]
    time = pa.array(_FIRST_US + numbers * _APART_US, pa.timestamp("us", tz="UTC"))
    columns = {
        "id": ids,
        "source": names,
        "incarnation": np.ones(count, np.int32),
        "topic": names,
        "partition": partition.astype(np.int32),
        "offset": offset,
        "publish_time": time,
        "ingestion_time": time,
        "key": [f"key-{n % 50_000}".encode() for n in numbers.tolist()],
        "attributes": _attributes(numbers.tolist()),
        "size": np.full(count, 250),
        "traits": np.full(count, 6, np.int32),
        "checksum": numbers,
        "location": [
            f"{lake}/source-{s:02}/{o // 10_000}.parquet"
            for s, o in zip(source.tolist(), offset.tolist(), strict=True)
        ],
        "position": offset % 10_000,
    }
    return pa.table(
        {name: pa.array(columns[name], ENTRY_SCHEMA.field(name).type) for name in ENTRY_SCHEMA.names}
    )


def _attributes(numbers: list[int]) -> pa.MapArray:
    return pa.MapArray.from_arrays(
        pa.array(np.arange(len(numbers) + 1) * 2, pa.int32()),
        pa.array(["customer", "version"] * len(numbers)),
        pa.array([text for n in numbers for text in (_customer(n), str(n % 5))]),
    )


def _customer(number: int) -> str:
    return f"c{number * 7919 % _CUSTOMERS}"


def _questions(size: int) -> dict[str, Callable[[], dict[str, Any]]]:
    def source() -> dict[str, Any]:
        return {"sources": [_random.choice(_names())]}

    def anywhere() -> int:
        return _random.randrange(size)

    hour = _HOUR_US // _APART_US
    return {
        "one id": lambda: {"ids": [f"source-{(n := anywhere()) % 20:02}_{n // 20 % 4}_{n // 80}"]},
        "a source in an hour": lambda: source() | _between(anywhere() + hour, hour),
        "a source and an attribute in an hour": lambda: (
            source()
            | _between(anywhere() + hour, hour)
            | {"where": [{"attributes.version": str(anywhere() % 5)}]}
        ),
        "a rare attribute, all sources, all time": lambda: {
            "where": [{"attributes.customer": _customer(anywhere())}]
        },
        "a key of a source, all time": lambda: source() | {"where": [{"key": f"key-{anywhere() % 50_000}"}]},
        "all sources in an hour": lambda: _between(anywhere() + hour, hour),
        "a page of 1,000 of a source": lambda: source() | {"page": 1000},
    }


def _between(end: int, count: int) -> dict[str, Any]:
    times = (_FIRST_US + max(end - count, 0) * _APART_US, _FIRST_US + end * _APART_US)
    names = ("published_from", "published_to")
    return {
        n: np.datetime_as_string(np.datetime64(t, "us"), unit="us") + "Z"
        for n, t in zip(names, times, strict=True)
    }


def _asked(name: str, port: int, question: Callable[[], dict[str, Any]], api: Watched) -> Figure:
    times, found, cpu = [], 0, api.cpu()
    with requests.Session() as session:
        for _ in range(_ASKED):
            selection = question()
            body = {"limit": selection.pop("page", 100), "selection": selection}
            started = time.perf_counter()
            answer = session.post(f"http://127.0.0.1:{port}/v1/messages/search", json=body, timeout=120)
            times.append(time.perf_counter() - started)
            answer.raise_for_status()
            found += len(answer.json()["messages"])
    median, slow = statistics.median(times) * 1000, statistics.quantiles(times, n=20)[-1] * 1000
    note = f"median {median:.0f} ms, 95 % within {slow:.0f} ms, {found / _ASKED:.0f} hits a page"
    return Figure(name, _ASKED, sum(times), api.cpu() - cpu, api.peak, note)


def planned(name: str, selection: dict[str, Any], places: list[str]) -> Figure:
    """Make a plan by the command."""
    started = time.monotonic()
    words = ["--json", "--timestamp=now", f"--selection={json.dumps(selection)}", *places]
    watched = Watched([sys.executable, "-m", "pipelines", "plan", *words])
    plan = json.loads(watched.output())["plan"]
    seconds = time.monotonic() - started
    return Figure(f"{name}: plan", plan["messages"], seconds, watched.used, watched.peak, "the whole command")


def is_ready(port: int) -> bool:
    """Whether the API at this port answers."""
    try:
        return requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).ok
    except OSError:
        return False
