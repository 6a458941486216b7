"""Unclean leader elections on three Kafka brokers: the log that was archived becomes another one.

A topic has two replicas, on the first two brokers; the third one is there so that controllers can elect.
"""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import Archive, Message, Persist, log_of
from tests.servers import Unavailable, wait_until
from tests.servers.kafka import Kafka
from tests.servers.kafka_cluster import KafkaCluster
from transforms.lake import Lake

pytestmark = pytest.mark.timeout(600)

_UNCLEAN = {"min_insync_replicas": 1, "unclean_leader_election_enable": "true"}
# By hand: PERSISTOR_ELECTIONS=20 python -m pytest -s -k random tests/integration/test_rewritten_logs.py
_ELECTIONS = int(os.environ.get("PERSISTOR_ELECTIONS", "2"))
_ADVICE = "archive from here on with another"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    try:
        Kafka.install()
    except Unavailable as missing:
        pytest.skip(str(missing))
    with KafkaCluster(tmp_path_factory.mktemp("cluster")) as started:
        for member in started.members:
            member.together = 2
        yield started


class Rewriting:
    """A topic whose first replica has messages that its second one never gets."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self.cluster = cluster
        self.first, self.second, self.third = cluster.members
        self.down: list[Kafka] = []
        self.topic = self.first.create_topic(f"t{uuid.uuid4().hex[:8]}", replicas=(1, 2), **_UNCLEAN)

    def produce(self, what: str, messages: int) -> None:
        self.first.produce(self.topic, [{"value": f"{what}{n}".encode()} for n in range(messages)])

    def part(self) -> None:
        """From now on the second replica gets nothing."""
        self._kill(self.second)
        self._wait_for(self.first, [self.first])

    def rewrite(self) -> None:
        """The first broker dies, the second one leads with what it has."""
        self._kill(self.first)
        self._start(self.second)
        self._wait_for(self.second, [self.second])

    def mend(self) -> None:
        """Both are there again, with the log of the second one, which changes places with the first one."""
        self._start(self.first)
        self._wait_for(self.second, [self.first, self.second])
        self.first, self.second = self.second, self.first

    def _kill(self, member: Kafka) -> None:
        member.kill()
        self.down.append(member)

    def _start(self, member: Kafka) -> None:
        member.start()
        self.down.remove(member)

    def _wait_for(self, leader: Kafka, replicas: list[Kafka]) -> None:
        nodes = {member: node for node, member in enumerate(self.cluster.members, 1)}
        number, wanted = nodes[leader], sorted(nodes[one] for one in replicas)
        admin = self.third.admin()

        def there() -> bool:
            found = admin.list_topics(timeout=20).topics[self.topic].partitions[0]
            return found.leader == number and sorted(found.isrs) == wanted

        wait_until(there, 120, f"{number} to lead {wanted}", pause=0.2)


@pytest.fixture
def rewriting(cluster: KafkaCluster) -> Iterator[Rewriting]:
    made = Rewriting(cluster)
    yield made
    for member in made.down:
        member.start()


def job_of(rewriting: Rewriting, tmp_path: Path, prefix: str = "") -> tuple[Persist, Archive]:
    lake, index = f"file://{tmp_path}/lake", f"sqlite://{tmp_path}/index.db"
    source = f"kafka://{rewriting.first.bootstrap}/{rewriting.topic}"
    job = Persist(tmp_path / "log", source=source, lake=lake, index=index, source_prefix=prefix)
    return job, Archive(Lake(lake), index)


@pytest.mark.parametrize("running", [True, False], ids=["running", "at a start"])
def test_a_log_that_was_rewritten_ends_the_job_with_advice_and_is_archived_under_another_name(
    running: bool, rewriting: Rewriting, tmp_path: Path
) -> None:
    job, archived = job_of(rewriting, tmp_path)
    rewriting.produce("before", 100)
    rewriting.part()
    rewriting.produce("lost", 20)
    with job:
        wait_until(lambda: bool(job.pid) and archived.indexed() == 120, 60, "120 messages", pause=0.2)
        if not running:
            job.drain()
        rewriting.rewrite()
        rewriting.produce("after", 200)
        for _ in range(2):
            if not running:
                job.start()
            assert job.ends(90) == 1
            assert _ADVICE in job.output()
            running = False
    assert archived.indexed() == 120
    again, _ = job_of(rewriting, tmp_path, prefix="again.")
    with again:
        wait_until(lambda: bool(again.pid) and archived.indexed() == 420, 60, "what is there now", pause=0.2)
        again.drain()
    archived.check(present(rewriting), besides={f"{rewriting.topic}_0_{n}" for n in range(120)})


def present(rewriting: Rewriting, prefix: str = "again.") -> dict[str, Message]:
    log = log_of(rewriting.third, rewriting.topic)
    return {f"{prefix}{rewriting.topic}_0_{offset}": message for (_, offset), message in log.items()}


class Campaign:
    """A job that is started under another prefix whenever it has found a rewritten log."""

    def __init__(self, rewriting: Rewriting, tmp_path: Path) -> None:
        self.rewriting, self._path = rewriting, tmp_path
        self.prefix, self.found = "", 0
        self.job, self.archived = job_of(rewriting, tmp_path)
        self.job.start()

    def catch_up(self) -> None:
        """Return once everything that is in Kafka is archived, under the prefix that holds then."""
        while not self._has(present(self.rewriting, self.prefix)):
            assert _ADVICE in self.job.output()
            self.found += 1
            self.prefix = f"p{self.found}."
            self.job, _ = job_of(self.rewriting, self._path, self.prefix)
            self.job.start()

    def _has(self, there: dict[str, Message]) -> bool:
        """Whether these are archived; False where the job has ended, as it must with a rewritten log."""
        values = {(id, message[1]) for id, message in there.items()}

        def settled() -> bool:
            return self.job.code is not None or values <= self._archived()

        wait_until(settled, 120, "the archive or the end of the job", pause=0.5)
        assert self.job.code in {None, 1}, self.job.output()
        return self.job.code is None

    def _archived(self) -> set[tuple[str, bytes]]:
        rows = self.archived.messages().select(["id", "data"]).to_pylist()
        return {(row["id"], row["data"]) for row in rows}

    def check(self) -> None:
        # A job that is stopped before its servers answered says so by its exit code.
        self.rewriting.produce("last", 1)
        self.catch_up()
        self.job.drain()
        there = present(self.rewriting, self.prefix)
        others = set(self.archived.messages()["id"].to_pylist()) - there.keys()
        own = {id for id in others if self.prefix and id.startswith(self.prefix)}
        assert own == set(), "messages that are not in Kafka were archived as if they were"
        self.archived.check(there, besides=others)


@pytest.mark.timeout(180 * _ELECTIONS + 120)
def test_after_unclean_elections_at_random_moments_all_of_kafka_is_in_the_lake_once_or_the_job_said_why(
    rewriting: Rewriting, tmp_path: Path
) -> None:
    seed = int(os.environ.get("PERSISTOR_SEED", "0")) or random.randrange(1 << 32)
    print(f"PERSISTOR_SEED={seed}")
    choice = random.Random(seed)
    campaign = Campaign(rewriting, tmp_path)
    try:
        for number in range(_ELECTIONS):
            elect(campaign, choice, number)
        campaign.check()
    finally:
        campaign.job.kill()
    print(f"{campaign.found} of {_ELECTIONS} elections rewrote what was archived")


def elect(campaign: Campaign, choice: random.Random, number: int) -> None:
    rewriting = campaign.rewriting
    rewriting.produce(f"{number}-both-", choice.randint(1, 300))
    rewriting.part()
    rewriting.produce(f"{number}-lost-", choice.choice([0, 1, 50, 200]))
    if choice.random() < 0.5:
        campaign.catch_up()
    away = choice.choice(["running", "killed", "frozen"])
    if away == "killed":
        campaign.job.kill()
    elif away == "frozen":
        campaign.job.pause()
    rewriting.rewrite()
    rewriting.produce(f"{number}-new-", choice.choice([0, 1, 40, 400]))
    if away == "killed":
        campaign.job.start()
    elif away == "frozen":
        campaign.job.resume()
    campaign.catch_up()
    rewriting.mend()
