"""``persistor persist`` as its users meet it: outages, limits, topics made anew, bad input."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import duckdb
import psutil
import pytest

from tests.conftest import running
from tests.integration.harness import Archive, Persist, expected, log_of, metric
from tests.integration.load import Load
from tests.servers import free_port, wait_until
from tests.servers.kafka import PASSWORD, USER, Kafka
from tests.servers.seaweed import Seaweed
from transforms.brokers.kafka import native
from transforms.lake import Lake
from transforms.reading.source import Source
from transforms.selection import Selection

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def topic(kafka: Kafka) -> str:
    return kafka.create_topic(f"orders-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(Lake(f"file://{tmp_path}/lake"), f"sqlite://{tmp_path}/index.db")


@pytest.fixture
def own_seaweed() -> Iterator[Seaweed]:
    yield from running(Seaweed)


def _persist(kafka: Kafka, topics: str, archive: Archive, log: Path, **options: str | list[str]) -> Persist:
    places = {"source": f"{kafka.url}/{topics}", "lake": archive.lake.url, "index": archive.index_url}
    return Persist(log, **{**places, **options})


def _orders(count: int) -> list[dict[str, bytes]]:
    return [{"key": b"k%d" % (n % 3), "value": b"order %d" % n} for n in range(count)]


def test_an_absent_store_is_waited_for_and_nothing_is_skipped(
    kafka: Kafka, topic: str, own_seaweed: Seaweed, tmp_path: Path
) -> None:
    lake = Lake(own_seaweed.create_bucket("lake"), own_seaweed.config)
    archive = Archive(lake, f"sqlite://{tmp_path}/index.db")
    config = [f"{name}={value}" for name, value in own_seaweed.config.items()]
    port = free_port()

    def attempts() -> float:
        return metric(port, "persistor_retries_total", what="lake") or 0

    options: dict[str, str | list[str]] = {"lake_config": config, "metrics_port": str(port)}
    with (
        _persist(kafka, topic, archive, tmp_path / "log", **options) as persist,
        Load(kafka, {topic: 1}, rate=4000),
    ):
        wait_until(lambda: archive.indexed() > 2000 and bool(persist.pid), 60, "a start")
        own_seaweed.kill()
        # By then what was written before is indexed, and what came after has been tried in vain.
        wait_until(lambda: attempts() >= 4, 60, "some attempts to write")
        archived, tried = archive.indexed(), attempts()
        wait_until(lambda: attempts() >= tried + 2, 60, "some more")
        assert archive.indexed() == archived
        memory = psutil.Process(persist.pid).memory_info().rss
        own_seaweed.start()
        wait_until(lambda: archive.indexed() > archived, 60, "it to go on")
        archive.check_not_overwritten()
    with persist:
        there = expected(kafka, topic)
        archive.wait_for(there, persist)
        persist.drain()
    archive.check(there)
    assert memory < 1_000 * 2**20
    assert persist.output().count("trying again until it succeeds") <= 12, "one line per outage and task"


def test_an_open_batch_of_an_idle_topic_is_written_at_its_age(
    kafka: Kafka, topic: str, archive: Archive, tmp_path: Path
) -> None:
    kafka.produce(topic, _orders(3))
    with _persist(kafka, topic, archive, tmp_path / "log", batch_messages="1000", batch_age="2s") as persist:
        there = expected(kafka, topic)
        archive.wait_for(there, persist)
        persist.drain()
        said = [line.partition(" INFO ")[2] for line in persist.output().splitlines() if " INFO " in line]
    archive.check(there)
    assert len(archive.files()) == 1
    assert said[:2] == [native.IN_C, f"Archiving {kafka.url}/{topic} to {archive.lake.url}"]
    assert said[-1] == "Stopped. Every message that was read is archived."


def test_files_keep_to_the_bytes_of_a_batch(
    kafka: Kafka, topic: str, archive: Archive, tmp_path: Path
) -> None:
    kafka.produce(topic, [{"value": bytes([n]) * 10_000} for n in range(100)])
    with _persist(kafka, topic, archive, tmp_path / "log", batch_bytes="100KiB", batch_age="2s") as persist:
        there = expected(kafka, topic)
        archive.wait_for(there, persist)
        persist.drain()
    archive.check(there)
    sizes = [one["counts"] for one in archive.messages()["location"].value_counts().to_pylist()]
    assert sorted(sizes) == [10] * 10


def test_300_paths_in_one_batch_are_300_files_all_indexed(
    kafka: Kafka, topic: str, archive: Archive, tmp_path: Path
) -> None:
    kafka.produce(
        topic, [{"value": b"%d" % n, "headers": [("tenant", b"t%d" % (n % 300))]} for n in range(3000)]
    )
    options = {"path": "{topic}/{header[tenant]}", "batch_messages": "3000", "batch_age": "5s"}
    with _persist(kafka, topic, archive, tmp_path / "log", **options) as persist:
        there = expected(kafka, topic)
        archive.wait_for(there, persist, 60)
        persist.drain()
    archive.check(there)
    assert {path.split("/")[1] for path in archive.files()} == {f"t{n}" for n in range(300)}
    assert len(archive.files()) == 300


def test_a_topic_made_anew_while_it_runs_is_archived_under_new_ids(
    kafka: Kafka, topic: str, archive: Archive, tmp_path: Path
) -> None:
    kafka.produce(topic, _orders(50))
    with _persist(kafka, topic, archive, tmp_path / "log") as persist:
        first = expected(kafka, topic)
        archive.wait_for(first, persist, 60)
        kafka.delete_topic(topic)
        kafka.create_topic(topic)
        kafka.produce(topic, _orders(80))
        second = {f"{topic}~2_{p}_{o}": message for (p, o), message in log_of(kafka, topic).items()}
        archive.wait_for(second, persist, 60)
        persist.drain()
    archive.check({**first, **second})


def test_without_its_groups_offsets_it_goes_on_behind_the_last_claim(
    kafka: Kafka, topic: str, archive: Archive, tmp_path: Path
) -> None:
    kafka.produce(topic, _orders(50))
    with _persist(kafka, topic, archive, tmp_path / "log") as persist:
        archive.wait_for(expected(kafka, topic), persist, 60)
        persist.drain()
    claims = archive.claims()
    kafka.delete_group(Source("", purpose=f"{archive.lake.url}|").group)
    kafka.produce(topic, _orders(10))
    with persist:
        there = expected(kafka, topic)
        archive.wait_for(there, persist, 60)
        persist.drain()
    archive.check(there)
    assert archive.claims() == claims + 1


def test_another_clusters_topic_of_the_same_name_is_refused_at_start(
    kafka: Kafka, topic: str, archive: Archive, tmp_path: Path
) -> None:
    kafka.produce(topic, _orders(5))
    with _persist(kafka, topic, archive, tmp_path / "log") as persist:
        archive.wait_for(expected(kafka, topic), persist, 60)
        persist.drain()
    with Kafka() as other:
        other.create_topic(topic)
        other.produce(topic, _orders(5))
        with _persist(other, topic, archive, tmp_path / "other") as foreign:
            assert foreign.ends() == 2, foreign.output()
        assert "give this cluster's sources another --source_prefix" in foreign.output()
        assert "Traceback" not in foreign.output()
        with _persist(other, topic, archive, tmp_path / "prefixed", source_prefix="eu.") as prefixed:
            wait_until(lambda: archive.indexed() == 10 and bool(prefixed.pid), 60, "both clusters' messages")
            prefixed.drain()
    index = archive.open_index()
    assert index.sources() == sorted([f"eu.{topic}", topic])
    index.close()


def test_an_id_that_is_indexed_for_another_message_stops_the_job(
    kafka: Kafka, topic: str, archive: Archive, tmp_path: Path
) -> None:
    kafka.produce(topic, [{"value": b"first"}])
    with _persist(kafka, topic, archive, tmp_path / "log") as persist:
        there = expected(kafka, topic)
        archive.wait_for(there, persist, 60)
        persist.drain()
    kafka.delete_topic(topic)
    kafka.create_topic(topic)
    kafka.produce(topic, [{"value": b"second"}])
    emptied = Archive(Lake(f"file://{tmp_path}/other-lake"), archive.index_url)
    with _persist(kafka, topic, emptied, tmp_path / "other") as other:
        assert other.ends() == 1, other.output()
    assert f"such as {topic}_0_0; docs/explanation/failures.md, Conflicts, explains" in other.output()
    assert "Traceback" not in other.output()
    archive.check(there)


def test_a_pattern_archives_neither_its_metadata_nor_its_dead_letters(
    kafka: Kafka, archive: Archive, tmp_path: Path
) -> None:
    family = f"f{uuid.uuid4().hex[:8]}"
    for name in ("orders", "meta", "dead"):
        kafka.create_topic(f"{family}.{name}")
    kafka.produce(f"{family}.dead", _orders(2))
    kafka.produce_in_transaction(f"{family}.orders", _orders(10))
    port = free_port()
    own = {
        name: f"{kafka.url}/{family}.{topic}"
        for name, topic in (("metadata", "meta"), ("dead_letter", "dead"))
    }
    with _persist(kafka, f"{family}.*", archive, tmp_path / "log", metrics_port=str(port), **own) as persist:
        there = expected(kafka, f"{family}.orders")
        archive.wait_for(there, persist, 60)
        source = f"{family}.orders"
        wait_until(lambda: metric(port, "persistor_lag_messages", source=source) == 0, 60, "no lag")
        wait_until(lambda: len(log_of(kafka, f"{family}.meta")) > 0, 60, "metadata")
        kafka.produce(f"{family}.orders", _orders(1))
        there = expected(kafka, f"{family}.orders")
        archive.wait_for(there, persist, 60)
        persist.drain()
    archive.check(there)
    index = archive.open_index()
    assert index.sources() == [f"{family}.orders"]
    index.close()


def test_duckdb_counts_by_path_partition_what_the_index_counts(
    kafka: Kafka, archive: Archive, tmp_path: Path
) -> None:
    topic, hour = kafka.create_topic(f"orders-{uuid.uuid4().hex[:8]}", retention_ms=-1), 3_600_000
    times = [1_700_000_000_000 + n * hour // 7 for n in range(200)]
    kafka.produce(topic, [{"value": b"x", "timestamp": time} for time in times])
    with _persist(kafka, topic, archive, tmp_path / "log") as persist:
        archive.wait_for(expected(kafka, topic), persist, 60)
        persist.drain()
    files = f"read_parquet('{tmp_path}/lake/*/date=*/hour=*/*.parquet', hive_partitioning = true)"
    by_day = f"SELECT CAST(date AS VARCHAR), count(*) FROM {files} GROUP BY 1 ORDER BY 1"
    counted = dict(duckdb.sql(by_day).fetchall())
    days = ["2023-11-14", "2023-11-15", "2023-11-16"]
    index = archive.open_index()
    for day, following in zip(days, [*days[1:], "2023-11-17"], strict=True):
        bounds = {"published_from": f"{day}T00:00:00Z", "published_to": f"{following}T00:00:00Z"}
        [summary] = index.summarize(Selection.model_validate({"sources": [topic], **bounds}))
        assert counted.pop(day) == summary.messages
    index.close()
    assert counted == {}


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=_ROOT, timeout=120, check=False)


def _refused(done: subprocess.CompletedProcess[str], *wanted: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for text in wanted:
        assert text in done.stderr


def test_every_problem_of_a_bad_command_is_named_at_once() -> None:
    done = _run(
        "persist",
        "--source=ftp://host/orders",
        "--lake=gcs://bucket",
        "--index=postgres://host",
        "--path={topic}/{colour}",
        "--batch_age=soon",
        "--format=xml",
    )
    _refused(done, "ftp", "gcs://bucket", "postgres", "colour", "soon", "xml")


def test_an_unknown_option_is_named() -> None:
    _refused(_run("persist", "--sorce=kafka://h/t", "--lake=file:///tmp/x", "--index=none"), "--sorce")


def test_a_missing_topic_and_a_missing_bucket_are_named_together(kafka: Kafka, seaweed: Seaweed) -> None:
    config = [f"--lake_config={name}={value}" for name, value in seaweed.config.items()]
    lake = f"--lake=s3://no-such-{uuid.uuid4().hex[:6]}"
    done = _run(
        "persist", f"--source={kafka.url}/no-such-topic", lake, *config, "--index=none", "--metrics_port=0"
    )
    _refused(done, "no-such-topic", "no-such-", "bucket")


def test_wrong_credentials_are_refused_with_one_sentence(
    kafka: Kafka, topic: str, seaweed: Seaweed, tmp_path: Path
) -> None:
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": USER}
    config = {**seaweed.config, "secret_access_key": "wrong-secret"}
    arguments = [
        f"--source=kafka://{kafka.sasl_bootstrap}/{topic}",
        *[f"--source_config={name}={value}" for name, value in login.items()],
        "--index=none",
        "--metrics_port=0",
    ]
    bucket = seaweed.create_bucket(f"lake-{uuid.uuid4().hex[:8]}")
    places = [f"--lake={bucket}", *[f"--lake_config={name}={value}" for name, value in config.items()]]
    wrong = _run("persist", *arguments, "--source_config=sasl.password=wrong-password", *places)
    _refused(wrong, "denies access")
    assert "wrong-" not in wrong.stderr
    with Persist(
        tmp_path / "log",
        source=f"kafka://{kafka.sasl_bootstrap}/{topic}",
        source_config=[*[f"{name}={value}" for name, value in login.items()], f"sasl.password={PASSWORD}"],
        lake=f"file://{tmp_path}/lake",
        index=f"sqlite://{tmp_path}/index.db",
    ) as right:
        kafka.produce(topic, _orders(3))
        archive = Archive(Lake(f"file://{tmp_path}/lake"), f"sqlite://{tmp_path}/index.db")
        archive.wait_for(expected(kafka, topic), right, 60)
        right.drain()
