"""persist, maintain, expire and a resubmission on one lake (S3) and one index (MongoDB), killed at random."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests._replay import consumed
from tests.integration.harness import Archive, Persist, committed, expected
from tests.integration.load import Load, load_message
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from tests.servers.minio import MinIO
from tests.servers.mongodb import MongoDB
from transforms.catalogue import segments
from transforms.lake import Lake

# By hand: PERSISTOR_KILLS=50 python -m pytest -s tests/integration/test_kills_of_everything.py
_KILLS = int(os.environ.get("PERSISTOR_KILLS", "2"))
_LONG_AGO = 1_600_000_000_000
_SENT = 3000
# Nothing is expired that may still be indexed: its offset was committed before the date.
_EXPIRE = (
    "import sys; from datetime import timedelta; from transforms.maintenance.expire import expire; "
    "expire.__kwdefaults__['young'] = timedelta(0); "
    "from pipelines.cli import main; sys.exit(main(sys.argv[1:]))"
)


class Work:
    """The commands at work, and what they work on: ``orders`` stay, ``old`` are published long ago."""

    def __init__(self, kafka: Kafka, minio: MinIO, mongodb: MongoDB, path: Path) -> None:
        id = uuid.uuid4().hex[:8]
        self.kafka = kafka
        self.orders, self.old, self.copy = (
            kafka.create_topic(f"{name}-{id}", partitions=2, retention_ms=-1)
            for name in ("orders", "old", "copy")
        )
        self.archive = Archive(
            Lake(minio.create_bucket(f"lake-{id}") + "/kafka", minio.config), f"{mongodb.url}{id}"
        )
        config = [f"{name}={value}" for name, value in minio.config.items()]
        self._lake = [f"--lake={self.archive.lake.url}", *(f"--lake_config={one}" for one in config)]
        self._index = f"--index={self.archive.index_url}"
        self._log = path / "commands.log"
        self.persist = Persist(
            path / "persist.log",
            source=f"{kafka.url}/{self.orders},{self.old}",
            lake=self.archive.lake.url,
            lake_config=config,
            index=self.archive.index_url,
        )
        self.job: str | None = None
        self._produced = 0

    def age(self, messages: int) -> datetime:
        """Archive messages of long ago; returns when nobody writes them any more."""
        numbers = range(self._produced, self._produced + messages)
        sent = [{**load_message(n), "partition": n % 2, "timestamp": _LONG_AGO + n} for n in numbers]
        self.kafka.produce(self.old, sent)
        self._produced += messages
        wait_until(lambda: bool(self.persist.pid) and self._durable(), 90, "what is old to be durable", 0.2)
        return datetime.now(timezone.utc)

    def _durable(self) -> bool:
        return committed(self.kafka, self.old, self.archive) == self._produced

    def maintain(self) -> subprocess.Popen[bytes]:
        return self._start([sys.executable, "-m", "pipelines", "maintain", *self._lake, "--age=1s"])

    def expire(self, archived_before: datetime) -> subprocess.Popen[bytes]:
        dates = ["--before=2021-01-01", f"--archived_before={archived_before.isoformat(timespec='seconds')}"]
        return self._start(
            [sys.executable, "-c", _EXPIRE, "expire", *self._lake, self._index, *dates, "--yes"]
        )

    def resubmit(self, *more: str) -> subprocess.Popen[bytes]:
        """Begin or continue to send the first messages."""
        command = [sys.executable, "-m", "pipelines", "resubmit", "--json", *self._lake, self._index]
        command += [f"--destination={self.kafka.url}/{self.copy}", *more]
        if self.job is not None:
            return self._start([*command, f"--resume={self.job}"])
        begun = self._start([*command, f"--source={self.orders}", f"--limit={_SENT}"])
        self.job = wait_until(self._found, 60, "the job")
        return begun

    def without_limit(self) -> subprocess.Popen[bytes]:
        """What is left is sent at once; the rate is for the kills."""
        rate = ["--action=rate", f"--job={self.job}", "--messages_per_second=100000"]
        return self._start([sys.executable, "-m", "pipelines", "jobs", self._index, *rate])

    def _found(self) -> str | None:
        index = self.archive.open_index()
        try:
            return next((str(row["id"]) for row in index.list_jobs(1)), None)
        finally:
            index.close()

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def ends(self, process: subprocess.Popen[bytes], codes: Collection[int] = (0,)) -> None:
        """Return once it has ended as it should."""
        assert process.wait(240) in codes, self._log.read_text()[-4000:]

    def check(self) -> None:
        orders, old = (expected(self.kafka, topic) for topic in (self.orders, self.old))
        self.archive.wait_for(orders, self.persist)
        self.persist.drain()
        self.archive.check(orders, besides=old.keys())
        left = old.keys() & set(self.archive.messages()["id"].to_pylist())
        assert len(left) < len(old), "expire was to delete some"
        self._check_copy([message[1] for message in orders.values()])
        for topic in (self.orders, self.old):
            folded = [entry.place for one in segments(self.archive.lake, topic) for entry in one.entries()]
            assert len(folded) == len(set(folded)) > 0

    def _check_copy(self, values: Sequence[Any]) -> None:
        sent = [message[2] for message in consumed(self.kafka, self.copy, 2)]
        assert len(sent) == len(set(sent)) == _SENT, "a message was sent twice, or not at all"
        assert set(sent) <= set(values)


@pytest.fixture
def work(kafka: Kafka, minio: MinIO, mongodb: MongoDB, tmp_path: Path) -> Iterator[Work]:
    made = Work(kafka, minio, mongodb, tmp_path)
    with made.persist:
        yield made


@pytest.mark.timeout(120 * _KILLS + 600)
def test_kills_of_all_commands_at_the_same_time_lose_and_double_nothing(work: Work) -> None:
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(2**32))
    print(f"the random moments of this test come from the seed {seed}; SEED={seed} has them again")
    choice = random.Random(seed)
    with Load(work.kafka, {work.orders: 2}, rate=200) as load:
        wait_until(lambda: bool(work.persist.pid) and work.archive.indexed() > _SENT, 120, "a beginning")
        sending = work.resubmit(f"--messages_per_second={_SENT // (10 * _KILLS)}")
        try:
            for number in range(_KILLS):
                sending = strike(work, choice, sending, number)
                load.check()
            if sending.poll() != 0:
                sending.kill()
                sending.wait()
                work.ends(work.without_limit())
                sending = work.resubmit()
                work.ends(sending)
        finally:
            sending.kill()
            sending.wait()
    for command in (work.expire(work.age(10)), work.maintain()):
        work.ends(command)
    work.check()


def strike(
    work: Work, choice: random.Random, sending: subprocess.Popen[bytes], number: int
) -> subprocess.Popen[bytes]:
    """Kill some of the commands while all are at work; returns the one that sends then."""
    at_once = {"expire": work.expire(work.age(100)), "maintain": work.maintain()}
    time.sleep(choice.uniform(0.5, 5))  # the random moment is what is tested
    victims = [name for name in ("persist", "expire", "maintain", "resubmit") if choice.random() < 0.5]
    print(f"{number}: kill {', '.join(victims) or 'nothing'}", flush=True)
    for name in victims:
        if name in at_once:
            at_once[name].kill()
    if "persist" in victims:
        work.persist.kill()
        work.persist.start()
    if "resubmit" in victims and sending.poll() != 0:
        sending.kill()
        sending.wait()
        sending = work.resubmit()
    for name, process in at_once.items():
        work.ends(process, {0, -9} if name in victims else {0})
    return sending
