"""Times that few producers give: what the lake keeps, and what a plan says that a destination will not."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.cli import main
from tests._replay import consumed
from tests.integration.harness import Archive, Persist, metric
from tests.servers import free_port, wait_until
from tests.servers.kafka import Kafka
from tests.servers.kafka_raw import produce_raw
from transforms.lake import Lake
from transforms.model import LATEST_US

_FOREVER = (1 << 63) - 1
_ANY_TIME = {
    "message_timestamp_before_max_ms": _FOREVER,
    "message_timestamp_after_max_ms": _FOREVER,
    "retention_ms": -1,
}
_KEPT = {-1: None, -5: -5000, 1: 1000, 9223372036854775: LATEST_US}
_ZERO = {0: 0}
_BEYOND = {9223372036854776: LATEST_US, 1790000000000000000: LATEST_US}


class Site:
    def __init__(self, kafka: Kafka, place: Path, name: str) -> None:
        self.kafka, self.name, self.place = kafka, name, place
        self.archive = Archive(Lake(f"file://{place}/lake"), f"sqlite://{place}/index.db")
        for topic in (name, f"{name}-copy"):
            kafka.create_topic(topic, **_ANY_TIME)

    def persist(self, *times: int) -> None:
        for time in times:
            produce_raw(self.kafka, self.name, b"%d" % time, [], time)
        port = free_port()
        where = {"source": f"{self.kafka.url}/{self.name}", "metrics_port": str(port)}
        place = {"lake": self.archive.lake.url, "index": self.archive.index_url}
        with Persist(self.place / "log", **where, **place) as job:
            self.archive.wait_for([f"{self.name}_0_{n}" for n in range(len(times))], job)
            late = sum(time * 1000 >= LATEST_US for time in times)
            count = partial(metric, port, "persistor_late_times_total", source=self.name)
            wait_until(lambda: count() == late, 30, "the count")
            job.drain()

    def times(self) -> list[int | None]:
        rows = self.archive.messages().sort_by("offset")
        return rows["publish_time"].cast(pa.int64()).to_pylist()

    def plan(self, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
        capsys.readouterr()
        assert main(["plan", *self._where(), "--json", *words]) in {0, 2}
        return json.loads(capsys.readouterr().out)["plan"]

    def send(self, *words: str) -> list[tuple[bytes, int]]:
        assert main(["resubmit", *self._where(), *words]) == 0
        return [(value, time) for _, _, value, _, time in consumed(self.kafka, f"{self.name}-copy")]

    def _where(self) -> list[str]:
        to = ["--destination", f"{self.kafka.url}/{self.name}-copy", "--selection", '{"all": true}']
        return ["--lake", self.archive.lake.url, "--index", self.archive.index_url, *to]


def test_every_time_that_fits_comes_back_as_it_was(
    kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(kafka, tmp_path, "times-kept")
    site.persist(*_KEPT)
    assert site.times() == list(_KEPT.values())
    # The last of them is the lake's latest, which may stand for a later one.
    assert site.plan(capsys)["cannot_carry"] == {
        "times behind the year 294247, which the lake has as its latest (sent as that if lossy)": 1
    }
    assert site.send("--lossy") == [(b"%d" % time, time) for time in _KEPT]


def test_what_a_destination_would_change_is_counted_and_refused_unless_lossy(
    kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(kafka, tmp_path, "times-changed")
    site.persist(*_ZERO, 5000, *_BEYOND)
    assert site.times() == [0, 5_000_000, LATEST_US, LATEST_US]
    told = site.plan(capsys)
    assert sorted(told["cannot_carry"].values()) == [1, 2]  # type: ignore[attr-defined]
    assert "cannot carry 1 times of the first milliseconds of 1970" in " ".join(told["problems"])  # type: ignore[arg-type]
    assert site.plan(capsys, "--timestamp", "now")["cannot_carry"] == {}
    sent = dict(site.send("--lossy"))
    assert sent.pop(b"0") > 1_700_000_000_000
    latest = LATEST_US // 1000
    assert sent == {b"5000": 5000, b"9223372036854776": latest, b"1790000000000000000": latest}
