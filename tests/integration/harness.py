"""Runs the real ``persistor persist`` under load and compares what it archived with its broker."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import requests
from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.servers import wait_until
from tests.servers.kafka import Kafka
from transforms import registry
from transforms.indexes import Index
from transforms.lake import INTERNAL, Lake
from transforms.model import ENTRY_SCHEMA, FILE_SCHEMA
from transforms.reading.source import Source
from transforms.selection import Selection

__all__ = [
    "Archive",
    "Message",
    "Persist",
    "committed",
    "expected",
    "log_of",
    "metric",
]

_ROOT = Path(__file__).resolve().parents[2]
_DEFAULTS = {
    "persist": {"batch_messages": "400", "batch_age": "300ms", "metrics_port": "0"},
    "index": {"metrics_port": "0"},
}
_PLACE = ["id", "checksum", "location", "position"]
_NO_PLACES = pa.schema([ENTRY_SCHEMA.field(name) for name in _PLACE]).empty_table()
_NO_ROWS = FILE_SCHEMA.append(ENTRY_SCHEMA.field("location")).append(ENTRY_SCHEMA.field("position"))
_CONTENT = ["id", "key", "data", "headers", "publish_time"]

Message = tuple[Any, Any, Any, Any]
"""Key, value, headers and timestamp (ms) of a message, to be compared."""


class Persist:
    """The command as a process of its own, which may be killed, frozen and started again.

    Args:
        log: where all that it prints is kept.
        command: ``persist``, or ``index``, which has no batches to set.
        options: of the command, besides small and short batches and no metrics.
    """

    def __init__(self, log: Path, command: str = "persist", **options: str | list[str] | bool) -> None:
        self.log = log
        self._command = command
        self._arguments = []
        for name, value in {**_DEFAULTS[command], **options}.items():
            values = value if isinstance(value, list) else [value]
            self._arguments += [f"--{name}" if one is True else f"--{name}={one}" for one in values]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipelines", self._command, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=_ROOT,
            )

    def kill(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def pause(self) -> None:
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def drain(self, seconds: float = 60.0) -> None:
        """Stop it by SIGTERM; it must end by itself with exit code 0."""
        os.kill(self.pid, signal.SIGTERM)
        code = self.ends(seconds)
        assert code == 0, f"exit code {code}: {self.output()}"

    def ends(self, seconds: float = 60.0) -> int:
        """The exit code, once there is one."""
        assert self._process is not None
        return self._process.wait(seconds)

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        assert self._process is not None
        return self._process.poll()

    @property
    def pid(self) -> int:
        """Of the running process; a test fails here where it ended by itself."""
        assert self._process is not None
        assert self._process.poll() is None, self.output()
        return self._process.pid

    def output(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-6000:]

    def __enter__(self) -> Persist:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def log_of(kafka: Kafka, topic: str) -> dict[tuple[int, int], Message]:
    """What a reader of committed messages finds in a topic now, by partition and offset."""
    kafka.settle(topic)
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "check",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    try:
        return dict(_read_all(consumer, topic))
    finally:
        consumer.close()


def committed(kafka: Kafka, topic: str, archive: Archive) -> int:
    """Sum of the offsets that a persist without a metadata topic has committed of a topic."""
    group = Source("", purpose=f"{archive.lake.url}|").group
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "log_level": 0})
    try:
        partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        found = consumer.committed([TopicPartition(topic, number) for number in partitions], timeout=20)
    finally:
        consumer.close()
    return sum(max(0, one.offset) for one in found)


def expected(kafka: Kafka, topic: str) -> dict[str, Message]:
    """The same by the ids that the archive gives."""
    return {f"{topic}_{partition}_{offset}": m for (partition, offset), m in log_of(kafka, topic).items()}


def _read_all(consumer: Consumer, topic: str) -> Iterator[tuple[tuple[int, int], Message]]:
    partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    left, deadline = set(partitions), time.monotonic() + 60
    while left:
        assert time.monotonic() < deadline, f"{topic} cannot be read to its end"
        for message in consumer.consume(10_000, 1.0):
            if error := message.error():
                if error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
                continue
            headers = tuple(message.headers() or ())
            content = message.key(), message.value(), headers, message.timestamp()[1]
            yield (message.partition(), message.offset()), content


class Archive:
    """Lake and index of a job, looked at from outside."""

    def __init__(self, lake: Lake, index_url: str, format: str = "parquet") -> None:
        self.lake = lake
        self.index_url = index_url
        self._format = format
        self._digests: dict[str, bytes] = {}

    def open_index(self) -> Index:
        """A connection of one's own to the index."""
        return registry.index(self.index_url).open(self.index_url)

    def indexed(self) -> int:
        """Messages in the index now."""
        index = self.open_index()
        try:
            return sum(one.messages for one in index.summarize(Selection(all=True)))
        finally:
            index.close()

    def files(self) -> list[str]:
        """Paths of the files of messages."""
        return sorted(path for path, _ in self.lake.list() if not path.startswith(INTERNAL))

    def claims(self) -> int:
        """How many ranges were claimed."""
        return sum(1 for _ in self.lake.list(f"{INTERNAL}claims"))

    def check_not_overwritten(self) -> None:
        """Every file that was there the last time is there still, with the same bytes."""
        present = set(self.files())
        assert self._digests.keys() <= present, "files are gone"
        for path in present:
            digest = hashlib.sha256(self.lake.get(path)).digest()
            assert self._digests.setdefault(path, digest) == digest, f"{path} was overwritten"

    def messages(self) -> pa.Table:
        """All rows of all files, with their ``location`` and ``position``."""
        return pa.concat_tables([_NO_ROWS.empty_table(), *map(self._file, self.files())])

    def _file(self, path: str) -> pa.Table:
        rows = registry.format_of(self._format).decode(self.lake.get(path))
        places = [self.lake.location(path)] * len(rows), range(len(rows))
        return pa.table([*rows.columns, *map(pa.array, places)], schema=_NO_ROWS)

    def entries(self) -> pa.Table:
        """All entries of the index: id, checksum, location, position."""
        index = self.open_index()
        try:
            found = [table.select(_PLACE) for table in index.select(Selection(all=True), _PLACE)]
        finally:
            index.close()
        return pa.concat_tables([_NO_PLACES, *found])

    def wait_for(self, ids: Iterable[str], persist: Persist, seconds: float = 120.0) -> None:
        """Return once these ids are indexed; fail where the job ended or takes too long."""
        missing = set(ids)

        def all_there() -> bool:
            missing.difference_update(self.entries()["id"].to_pylist())
            return bool(persist.pid) and not missing

        try:
            wait_until(all_there, seconds, "the messages", pause=0.5)
        except TimeoutError as error:
            some = sorted(missing)[:3]
            raise AssertionError(f"{len(missing)} are not indexed, {some}: {persist.output()}") from error

    def check(self, expected: Mapping[str, Message], *, besides: Set[str] = frozenset()) -> None:
        """Lake and index hold the expected messages by id, each exactly once and unchanged.

        Args:
            besides: ids that may be there too, and no others.
        """
        self.check_not_overwritten()
        rows = self.messages()
        found = {row["id"]: _content(row) for row in rows.select(_CONTENT).to_pylist()}
        repeated = [id for id, count in Counter(rows["id"].to_pylist()).items() if count > 1]
        assert repeated == [], f"{len(repeated)} messages are in the lake more than once"
        missing = sorted(expected.keys() - found.keys())
        assert missing == [], f"{len(missing)} messages are not in the lake"
        assert sorted(found.keys() - expected.keys() - besides) == []
        changed = [id for id, content in expected.items() if found[id] != content]
        assert changed == [], f"{len(changed)} messages are not as they were"
        self._check_index(rows)

    def _check_index(self, rows: pa.Table) -> None:
        entries, places = (
            {(row["id"], row["checksum"], row["location"], row["position"]) for row in table.to_pylist()}
            for table in (self.entries(), rows.select(_PLACE))
        )
        assert sorted(places - entries) == [], f"{len(places - entries)} rows of the lake are not indexed"
        assert sorted(entries - places) == [], f"{len(entries - places)} entries point at wrong rows"


def _content(row: Mapping[str, Any]) -> Message:
    headers = tuple((header["name"], header["value"]) for header in row["headers"])
    return row["key"], row["data"], headers, round(row["publish_time"].timestamp() * 1000)


def metric(port: int, name: str, **labels: str) -> float | None:
    """A value of the metrics page of a running job, None while there is none."""
    try:
        page = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=2).text
    except OSError:
        return None
    wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
    start = f"{name}{{{wanted}}} " if wanted else f"{name} "
    values = [line.removeprefix(start) for line in page.splitlines() if line.startswith(start)]
    return float(values[0]) if values else None
