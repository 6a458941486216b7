"""``persistor persist`` killed again and again on the brokers besides Kafka; NATS itself is killed too."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from tests._brokers import Site, fetch, installed, numbered, reading, together
from tests.integration.harness import Archive, Persist
from tests.servers import wait_until
from transforms.brokers import PublishOptions
from transforms.errors import TransientError
from transforms.lake import Lake

pytestmark = pytest.mark.timeout(300)

_KILLS = 6


@contextmanager
def _publishing(site: Site, topic: str) -> Iterator[list[bytes]]:
    """Numbered messages, all confirmed by the broker; a chunk whose fate is unknown is sent again."""
    stop, confirmed = threading.Event(), list[bytes]()

    def run() -> None:
        publisher = site.publisher(topic)
        publisher.begin()
        unknown = False
        while unknown or not stop.wait(0.05):
            chunk = numbered(100, len(confirmed))
            try:
                publisher.send(chunk, PublishOptions(original_time=False))
                assert publisher.commit(0) == []
            except TransientError:
                unknown = True
                time.sleep(0.05)
                continue
            unknown = False
            confirmed.extend(chunk["data"].to_pylist())
        publisher.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield confirmed
    finally:
        stop.set()
        thread.join(120)
    assert not thread.is_alive()


def _archive_under_kills(
    site: Site, topic: str, tmp_path: Path, *, broker_too: bool
) -> tuple[Archive, set[bytes]]:
    lake, index = f"file://{tmp_path}/lake", f"sqlite://{tmp_path}/index.db"
    archive, moments = Archive(Lake(lake), index), random.Random(7)
    job = Persist(tmp_path / "log", source=site.url(topic), lake=lake, index=index)
    with job:
        with _publishing(site, topic) as confirmed:
            for kill in range(_KILLS):
                files = len(archive.files())
                wait_until(lambda: bool(job.pid) and len(archive.files()) > files + 1, 60, "files")  # noqa: B023
                if broker_too and moments.random() < 0.5:
                    with site.server.killed():
                        pass
                if kill % 2 or not broker_too:
                    job.kill()
                    job.start()
                archive.check_not_overwritten()
        wanted = set(confirmed)
        wait_until(lambda: bool(job.pid) and wanted <= _data(archive), 90, "all that was confirmed", 0.5)
        job.drain()
    return archive, wanted


def _data(archive: Archive) -> set[bytes]:
    return set(archive.messages()["data"].to_pylist())


def _by_id(table: pa.Table) -> dict[str, bytes]:
    return dict(zip(table["id"].to_pylist(), table["data"].to_pylist(), strict=True))


def test_nats_is_archived_exactly_once_whatever_is_killed(tmp_path: Path) -> None:
    with installed("nats") as site:
        topic = site.topic()
        archive, wanted = _archive_under_kills(site, topic, tmp_path, broker_too=True)
        with reading(site.reader(topic, "check")) as reader:
            stream = together(fetch(reader, len(wanted)))
        rows, entries = archive.messages(), archive.entries()
    expected = {f"{topic}_0_{row['offset']}": row["data"] for row in stream.to_pylist()}
    assert len(rows) == len(expected)
    assert _by_id(rows) == expected
    assert sorted(entries["id"].to_pylist()) == sorted(expected)
    _check_places(rows, entries)


def test_pubsub_is_archived_at_least_once_and_indexed_once(tmp_path: Path) -> None:
    with installed("pubsub") as site:
        topic = site.topic()
        archive, wanted = _archive_under_kills(site, topic, tmp_path, broker_too=False)
        rows, entries = archive.messages(), archive.entries()
    assert _data(archive) == wanted
    assert sorted(entries["id"].to_pylist()) == sorted(set(rows["id"].to_pylist()))
    _check_places(rows, entries)


def _check_places(rows: pa.Table, entries: pa.Table) -> None:
    """Every entry points at a row of its own message."""
    places = ["location", "position", "id"]
    there = set(zip(*(rows[name].to_pylist() for name in places), strict=True))
    assert set(zip(*(entries[name].to_pylist() for name in places), strict=True)) <= there
