"""What a release stores, made by that release for the tests of later ones (``release-<version>/``).

Run it in a checkout of the release with an environment of its own, as
``PYTHONPATH=. .venv/bin/python <this file> <directory>``; it imports that checkout's code and servers alone.
Where the servers and the lake are stands in variables, so that what is stored names no machine.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bson import json_util
from confluent_kafka import Consumer, TopicPartition
from pymongo import MongoClient

from pipelines.cli import main
from tests._brokers import NatsSite, messages
from tests._processes import spawned
from tests.integration.harness import Persist
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from tests.servers.kafka_raw import produce_raw
from tests.servers.mongodb import MongoDB
from tests.servers.nats import Nats
from transforms import registry
from transforms.lake import Lake
from transforms.read_batches import Positions, _PositionsCoder
from transforms.replay.ledger import total
from transforms.replay.plans import load_plan
from transforms.selection import Selection

LAKE, KAFKA, NATS = "file://${env:RELEASE_LAKE}", "kafka://${env:RELEASE_KAFKA}", "nats://${env:RELEASE_NATS}"
TOPICS = "release", "copy", "dead", "metadata"
STREAMS = "release-avro", "release-jsonl", "copy-planned", "copy-done", "copy-stopped"
MESSAGES, DEAD_LIMIT = 40, 8192


class Maker:
    """Makes one lake with all that belongs to it."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.index = f"sqlite://{work}/index.db"
        self.kafka, self.nats = Kafka(work / "kafka"), Nats(work / "nats")
        self.site = NatsSite(self.nats)
        self.expected: dict[str, Any] = {"messages": MESSAGES, "cluster": self.kafka.cluster}
        os.environ |= {
            "RELEASE_LAKE": f"{work}/lake",
            "RELEASE_KAFKA": self.kafka.bootstrap,
            "RELEASE_NATS": f"127.0.0.1:{self.nats.port}",
        }

    def archive(self) -> None:
        """Three sources in three formats, dead letters, and metadata messages."""
        for topic in TOPICS:
            limit = {"max_message_bytes": DEAD_LIMIT} if topic == "dead" else {}
            self.kafka.create_topic(topic, 2 if topic in {"release", "copy"} else 1, retention_ms=-1, **limit)
        for stream in STREAMS:
            self.site.create(stream)
        self._publish()
        self._persist("release", KAFKA, "parquet", MESSAGES, dead_letter=f"{KAFKA}/dead")
        self._persist("release-avro", NATS, "avro", MESSAGES, metadata=f"{KAFKA}/metadata")
        self._persist("release-jsonl", NATS, "jsonl", MESSAGES)

    def resubmit(self) -> None:
        """A plan, a job that is done but for the messages of a lost file, and two that were killed."""
        self.expected["planned"] = self._plan("release-avro", f"{NATS}/copy-planned")
        lost = min((self.work / "lake" / "release-jsonl").rglob("*.jsonl"))
        lost.rename(self.work / "lost")
        self.expected["done"] = done = self._plan("release-jsonl", f"{NATS}/copy-done")
        self._command("resubmit", "--plan", done, code=1)
        (self.work / "lost").rename(lost)
        for name, source, to in (
            ("stopped", "release", f"{KAFKA}/copy"),
            ("stopped_nats", "release-avro", f"{NATS}/copy-stopped"),
        ):
            self.expected[name] = job = self._plan(source, to)
            self._kill(job)

    def store(self, target: Path) -> None:
        """Everything into the directory; the servers have ended."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.work / "lake", target / "lake")
        with closing(sqlite3.connect(self.work / "index.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with zipfile.ZipFile(target / "servers.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            archive.write(self.work / "index.db", "index.db")
            for server in ("kafka", "nats"):
                for path in sorted((self.work / server).rglob("*")):
                    if (
                        path.suffix not in {".log", ".conf", ".properties"}
                        or path.parent != self.work / server
                    ):
                        archive.write(path, path.relative_to(self.work))
        positions = {"release~1/0": self.expected["restriction"]}
        (target / "restriction.json").write_bytes(_PositionsCoder().encode(Positions(positions)))
        (target / "tokens.yaml").write_text(self._token())
        _write(target / "expected.json", self.expected)

    def dump(self, target: Path, mongodb: MongoDB) -> None:
        """The documents of MongoDB and the metadata messages."""
        self._command("rebuild", index=mongodb.url)
        self.expected["mongodb_planned"] = self._plan("release", f"{KAFKA}/copy", mongodb.url)
        client: MongoClient[dict[str, Any]] = MongoClient(mongodb.url)
        with closing(client):
            database = client.get_default_database()
            kept = {name: list(database[name].find()) for name in database.list_collection_names()}
        (target / "documents.json").write_text(json_util.dumps(kept) + "\n")
        _write(target / "metadata.json", list(self._metadata()))

    def first_claim(self) -> int:
        """Where the second batch of partition 0 begins."""
        return sorted(int(p.name) for p in (self.work / "lake/_persistor/claims/release/0").iterdir())[1]

    def _publish(self) -> None:
        plain = [
            {
                "key": b"key-%d" % (n % 3),
                "value": b'{"n": %d}' % n,
                "headers": [("n", b"%d" % n), ("n", None)],
            }
            for n in range(MESSAGES - 2)
        ]
        shapes = [{"key": b"tombstone", "value": None}, {"key": b"\xff", "value": b"\xff\x00"}]
        for number, message in enumerate(plain + shapes):
            self.kafka.produce("release", [{"partition": number % 2, **message}])
        for value in (b"small", bytes(2 * DEAD_LIMIT)):
            produce_raw(self.kafka, "release", value, [(b"\xff", b"not UTF-8")], time.time_ns() // 1_000_000)
        for stream in ("release-avro", "release-jsonl"):
            heads = ([{"name": "n", "value": b"%d" % n}] for n in range(MESSAGES))
            self.site.publish(
                stream, messages(*({"data": b"%d" % n, "headers": h} for n, h in enumerate(heads)))
            )

    def _persist(self, topic: str, broker: str, format: str, count: int, **more: str) -> None:
        where = {"source": f"{broker}/{topic}", "lake": LAKE, "index": self.index, "format": format, **more}
        with Persist(self.work / f"{topic}.log", batch_messages="15", **where) as job:
            wait_until(lambda: job.pid and self._indexed(topic) == count, 60, f"{topic} in the index")
            job.drain()

    def _indexed(self, source: str) -> int:
        with closing(registry.index(self.index).open(self.index)) as index:
            return sum(one.messages for one in index.summarize(Selection(sources=(source,))))

    def _plan(self, source: str, to: str, index: str | None = None) -> str:
        selection = json.dumps({"sources": [source]})
        words = ["--destination", to, "--selection", selection, "--lossy", "--json"]
        return str(json.loads(self._command("plan", *words, index=index))["plan"]["job"])

    def _kill(self, job: str) -> None:
        """Send at a low rate, and kill the process once a part is confirmed."""
        words = ["resubmit", *self._where(), "--plan", job, "--messages_per_second", "4"]
        lake = Lake(LAKE)
        with spawned([sys.executable, "-m", "pipelines.cli", *words]) as process:
            wait_until(lambda: total(lake, load_plan(lake, job)).done > 0, 60, "a commit", pause=0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
        self.expected[job] = total(lake, load_plan(lake, job)).done
        assert 0 < self.expected[job] < MESSAGES

    def _command(self, name: str, *words: str, index: str | None = None, code: int = 0) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            ended = main([name, *self._where(index), *words])
        assert ended == code, (ended, printed.getvalue())
        return printed.getvalue()

    def _where(self, index: str | None = None) -> Sequence[str]:
        return ["--index", index or self.index, "--lake", LAKE]

    def _token(self) -> str:
        line, shown = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(line), contextlib.redirect_stderr(shown):
            assert main(["token", "--name", "ci", "--role", "operator", "--allow_source", "release*"]) == 0
        self.expected["token"] = re.findall(r"persistor_\S+", shown.getvalue())[0]
        return line.getvalue()

    def _metadata(self) -> Iterator[dict[str, Any]]:
        consumer = Consumer(
            {"bootstrap.servers": self.kafka.bootstrap, "group.id": "maker", "enable.auto.commit": False}
        )
        consumer.assign([TopicPartition("metadata", 0, 0)])
        with closing(consumer):
            for message in consumer.consume(3, 20):
                headers = {name: value.decode() for name, value in message.headers()}
                yield {"headers": headers, "data": base64.b64encode(message.value()).decode()}


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def make(target: Path) -> None:
    """Make everything below ``target``, which is replaced."""
    work = Path("/tmp/persistor-release")
    shutil.rmtree(work, ignore_errors=True)
    (work / "lake").mkdir(parents=True)
    maker, aside = Maker(work), work / "aside"
    aside.mkdir()
    with maker.kafka, maker.nats, MongoDB() as mongodb:
        maker.archive()
        maker.resubmit()
        maker.dump(aside, mongodb)
        maker.expected["restriction"] = maker.first_claim()
        maker.kafka.stop(60)
        maker.nats.stop()
    maker.store(target)
    for path in aside.iterdir():
        shutil.copy(path, target)
    shutil.rmtree(work)


if __name__ == "__main__":
    make(Path(sys.argv[1]).resolve())
