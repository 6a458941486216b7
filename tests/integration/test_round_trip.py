"""Broker → lake → the same broker, with the commands as a user types them: what arrives is what was sent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.cli import main
from tests._brokers import SITES, Site, contents, fetch, installed, messages, reading, together
from tests.integration.harness import Archive, Persist
from tests.servers import wait_until
from transforms.brokers import PublishOptions
from transforms.lake import Lake
from transforms.model import Trait

_SHAPES: list[tuple[Trait, dict[str, Any]]] = [
    (Trait(0), {"data": b"plain"}),
    (Trait(0), {"data": b"\xff\x00 not text"}),
    (Trait(0), {"data": os.urandom(900_000)}),
    (Trait.HEADERS, {"data": b"", "headers": [{"name": "a", "value": b"1"}]}),
    (Trait.HEADERS, {"data": b"h", "headers": [{"name": "name", "value": "wärde".encode()}]}),
    (Trait.KEY, {"data": b"k", "key": b"key"}),
    (Trait.KEY | Trait.BINARY_KEY, {"data": b"k", "key": b"\xff\x00\xfe"}),
    (Trait.KEY | Trait.EMPTY_KEY, {"data": b"k", "key": b""}),
    (Trait.NULL_DATA | Trait.KEY, {"data": None, "key": b"tombstone"}),
    (
        Trait.HEADERS | Trait.REPEATED_HEADERS,
        {
            "data": b"r",
            "headers": [{"name": n, "value": v} for n, v in (("a", b"1"), ("b", b"2"), ("a", b"3"))],
        },
    ),
    (
        Trait.HEADERS | Trait.BINARY_HEADERS,
        {"data": b"b", "headers": [{"name": "bin", "value": b"\xff\xfe\x80"}]},
    ),
    (Trait.HEADERS | Trait.NULL_HEADERS, {"data": b"n", "headers": [{"name": "null", "value": None}]}),
]


@pytest.fixture(scope="module", params=list(SITES))
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with installed(request.param) as running:
        yield running


@pytest.fixture(params=["parquet", "avro", "jsonl"])
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.timeout(600)
def test_what_a_broker_can_carry_comes_back_unchanged(site: Site, format: str, tmp_path: Path) -> None:
    source, copy = site.topic(), site.topic()
    publisher = site.publisher(source)
    destination = publisher.destination()
    carries, keeps_time = destination.carries, destination.original_time
    sent = messages(*(shape for needs, shape in _SHAPES if needs in carries))
    publisher.begin()
    publisher.send(sent, PublishOptions(original_time=False))
    assert publisher.commit(0) == []
    publisher.close()
    lake, index = f"file://{tmp_path}/lake", f"sqlite://{tmp_path}/index.db"
    archive = Archive(Lake(lake), index, format)
    job = Persist(tmp_path / "log", source=site.url(source), lake=lake, index=index, format=format)
    with job:
        _wait_until_indexed(archive, len(sent), job)
        job.drain()

    where = ["--index", index, "--lake", lake, "--destination", site.url(copy)]
    selection = '{"published_from": "2020-01-01T00:00:00Z"}'
    assert main(["resubmit", *where, "--selection", selection]) == 0

    with reading(site.reader(copy)) as reader:
        arrived = together(fetch(reader, len(sent)))
    with reading(site.reader(source, "again")) as reader:
        original = together(fetch(reader, len(sent))) if site.ordered else sent
    assert _as_sent(arrived, site) == _as_sent(sent, site)
    if keeps_time:
        assert arrived["publish_time"].to_pylist() == original["publish_time"].to_pylist()


def _as_sent(table: pa.Table, site: Site) -> list[str]:
    found = contents(table)
    return found if site.ordered else sorted(found)


def _wait_until_indexed(archive: Archive, count: int, job: Persist) -> None:
    wait_until(lambda: bool(job.pid) and archive.indexed() == count, 180, f"{count} messages in the index")
