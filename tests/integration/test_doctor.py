"""``persistor doctor`` against real servers: what it finds, what it says to do, and what it leaves behind."""

from __future__ import annotations

import datetime as dt
import re
import socket
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import main
from pipelines.doctor.findings import Finding, show
from tests.servers.kafka import Kafka
from tests.servers.seaweed import Seaweed
from tests.unit.test_metrics_host import certificate
from transforms.indexes import sqlite
from transforms.lake import INTERNAL, Lake

TO = {"destination": "nats://127.0.0.1:1/x", "selection": '{"all": true}'}


@pytest.fixture
def topic(kafka: Kafka) -> str:
    name = f"t{uuid.uuid4().hex[:10]}"
    kafka.create_topic(name, partitions=3)
    return name


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")  # a narrow terminal folds what is looked for


def doctor(capsys: pytest.CaptureFixture[str], command: str, **settings: Any) -> tuple[int, str]:
    """Exit code and what was printed, on one line."""
    words = [f"--{name}={one}" for name, v in settings.items() for one in (v if isinstance(v, list) else [v])]
    code = main(["doctor", command, *words])
    told = capsys.readouterr()
    return code, re.sub(r"\s+", " ", told.out + told.err)


def test_what_is_in_order_is_said_to_be_and_nothing_is_left_behind(
    kafka: Kafka, seaweed: Seaweed, topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = seaweed.create_bucket(topic)
    config = [f"{name}={value}" for name, value in seaweed.config.items()]
    index = f"sqlite://{tmp_path}/index.db"
    code, told = doctor(
        capsys, "persist", source=f"{kafka.url}/{topic}", lake=bucket, lake_config=config, index=index
    )
    assert code == 0, told
    assert f"1 topic, 3 partitions: {topic}. Kafka is read by the extension in C." in told
    assert "Messages are kept for 168 h or longer" in told
    assert "Objects can be created once and read; a small one is written in" in told
    assert "clocks" not in told
    assert "0 to fix" in told
    assert list(Lake(bucket, seaweed.config).list()) == []


def test_everything_that_is_wrong_is_found_in_one_go(
    kafka: Kafka, seaweed: Seaweed, topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = seaweed.create_bucket(topic)
    config = [f"{name}={value}" for name, value in {**seaweed.config, "secret_access_key": "wrong"}.items()]
    expired = tmp_path / "ca.pem"
    expired.write_bytes(certificate(0))
    code, told = doctor(
        capsys,
        "persist",
        source=f"{kafka.url}/{topic},{topic}-missing",
        lake=bucket,
        lake_config=config,
        index="mongodb://127.0.0.1:1/none?serverSelectionTimeoutMS=500",
        dead_letter=f"{kafka.url}/{topic}-dead",
        dead_letter_config=f"ssl.ca.location={expired}",
    )
    assert code == 1
    assert f"'{topic}-missing' does not exist" in told
    assert "denies access" in told
    assert "Check the credentials and their rights." in told
    assert "index It does not answer" in told
    assert f"'{topic}-dead' does not exist" in told
    assert f"{expired} is valid until 2026-11-01. -> Renew it." in told
    assert "5 to fix" in told


def test_a_kafka_that_does_not_answer_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.brokers.kafka.reader.TIMEOUT", 1.0)
    monkeypatch.setattr("transforms.brokers.kafka.topics.TIMEOUT", 1.0)
    code, told = doctor(
        capsys,
        "persist",
        source="kafka://127.0.0.1:1,ann:a-secret@127.0.0.1:2/orders",
        lake=f"file://{tmp_path}/lake",
        index=f"sqlite://{tmp_path}/i.db",
    )
    assert code == 1
    assert "source It does not answer: kafka at 127.0.0.1:1,127.0.0.1:2: " in told
    assert "-> Check that it is running, and check address, network and credentials." in told
    assert "a-secret" not in told


def test_a_kafka_whose_name_is_unknown_is_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.brokers.kafka.reader.TIMEOUT", 3.0)
    monkeypatch.setattr("transforms.brokers.kafka.topics.TIMEOUT", 3.0)
    _, told = doctor(
        capsys,
        "persist",
        source="kafka://none.invalid:9092/orders",
        lake=f"file://{tmp_path}/lake",
        index="none",
    )
    assert "Failed to resolve 'none.invalid:9092'" in told


def test_a_retention_near_the_age_of_a_batch_and_idle_processes_are_seen(
    kafka: Kafka, topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka.create_topic(f"{topic}-short", partitions=1, retention_ms=60_000)
    code, told = doctor(
        capsys,
        "persist",
        source=f"{kafka.url}/{topic}-short",
        lake=f"file://{tmp_path}/lake",
        index=f"sqlite://{tmp_path}/i.db",
        processes=4,
    )
    assert code == 1
    assert f"{topic}-short keeps messages for 60 s, and a batch may stay open for 30 s." in told
    assert "4 processes share 1 partition: 3 stay idle." in told
    assert "1 to fix, 1 to watch." in told


def test_what_a_site_does_not_have_yet_is_not_made_by_looking(
    kafka: Kafka, topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"{tmp_path}/not/yet"
    code, told = doctor(
        capsys,
        "persist",
        source=f"{kafka.url}/{topic}",
        lake=f"file://{place}/lake",
        index=f"sqlite://{place}/i/i.db",
    )
    assert code == 0, told
    assert f"{place}/i/i.db does not exist yet; {tmp_path} is writable." in told
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "lake" / INTERNAL / "claims").mkdir(parents=True)
    code, told = doctor(
        capsys, "plan", lake=f"file://{tmp_path}/lake", index="mongodb://127.0.0.1:1/none", **TO
    )
    assert [path.name for path in (tmp_path / "lake").rglob("*")] == ["_persistor", "claims"]


def test_a_lake_that_nobody_may_delete_from_is_right_for_archiving_alone(
    seaweed: Seaweed, topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = seaweed.create_bucket(topic)
    seaweed.allow(topic, "ListBucket", "GetObject", "PutObject")
    config = [f"{name}={value}" for name, value in seaweed.guest_config.items()]
    given = {"lake": bucket, "lake_config": config}
    _, told = doctor(capsys, "persist", source="nats://127.0.0.1:1/x", index="none", **given)
    assert "stays, because objects cannot be deleted; archiving never deletes any." in told
    assert "1 to fix" in told
    _, told = doctor(capsys, "plan", index=f"sqlite://{existing(tmp_path)}", **given, **TO)
    assert "The command deletes old objects below _persistor/: allow it there." in told
    seaweed.allow(topic, "ListBucket", "GetObject")
    _, told = doctor(capsys, "persist", source="nats://127.0.0.1:1/x", index="none", **given)
    assert "denies access" in told
    assert "-> Grant these credentials the right to do it." in told


def test_a_lake_that_hangs_is_given_up_after_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.doctor.lake._PATIENCE", {"timeout": "1s"})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = {"endpoint": f"http://127.0.0.1:{silent.getsockname()[1]}", "skip_signature": "true"}
        config = [f"{name}={value}" for name, value in settings.items()]
        started = time.monotonic()
        index = f"sqlite://{existing(tmp_path)}"
        code, told = doctor(capsys, "rebuild", lake="s3://b", lake_config=config, index=index)
    assert code == 1
    assert "lake It does not answer" in told
    assert time.monotonic() - started < 30


def test_topics_that_lose_what_is_needed_are_seen(
    kafka: Kafka, topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka.create_topic(f"{topic}-state", cleanup_policy="compact")
    kafka.create_topic(f"{topic}-kept", cleanup_policy="compact")
    kafka.create_topic(f"{topic}-brief", retention_ms=3_600_000)
    found = {}
    for metadata in ("kept", "brief"):
        found[metadata] = doctor(
            capsys,
            "persist",
            source=f"{kafka.url}/{topic}-state",
            lake=f"file://{tmp_path}/lake",
            metadata=f"{kafka.url}/{topic}-{metadata}",
        )
    assert [code for code, _ in found.values()] == [1, 0]
    assert "only the last entries of a large file are kept. -> Set its cleanup.policy" in found["kept"][1]
    assert "keeps messages for 1.0 h: what is not indexed by then is not found." in found["brief"][1]
    assert f"{topic}-state is compacted: a message replaced by a later one" in found["brief"][1]


def existing(directory: Path) -> Path:
    """An index of SQLite."""
    sqlite.open(f"sqlite://{directory}/there.db").close()
    return directory / "there.db"


@pytest.mark.parametrize("words", [[], ["demo"], ["persist", "--souce=x"]])
def test_what_cannot_be_tried_is_refused_with_advice(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *words]) == 2
    assert "persistor doctor" in capsys.readouterr().err


def test_elsewhere_than_on_a_terminal_a_finding_is_a_line_of_three_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lake = f"file:///{'long' * 30} can be listed."
    findings = [Finding("lake", "fine", lake), Finding("certificate", "wrong", "It\tends.", "Renew it.")]
    assert show(iter(findings)) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"ok\tlake\t{lake}",
        "x\tcertificate\tIt\ufffdends. -> Renew it.",
        "2 checks: 1 to fix, 0 to watch.",
    ]


def test_a_certificate_that_lasts_is_no_worry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ca.pem"
    days = (dt.datetime.now(dt.timezone.utc) - dt.datetime(2026, 11, 1, tzinfo=dt.timezone.utc)).days
    file.write_bytes(certificate(days + 90))
    code, told = doctor(
        capsys,
        "rebuild",
        lake=f"file://{tmp_path}",
        index=f"sqlite://{tmp_path}/i.db",
        lake_config=f"root_certificate={file}",
    )
    assert code == 0, told
    assert f"{file} is valid until" in told
