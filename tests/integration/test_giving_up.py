"""``--on_failure dead_letter`` on real servers: the lake is away, and every message goes somewhere."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import running
from tests.integration.harness import Archive, Message, Persist, committed, expected, log_of
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from tests.servers.seaweed import Seaweed
from transforms.lake import Lake


@pytest.fixture
def own_seaweed() -> Iterator[Seaweed]:
    yield from running(Seaweed)


@pytest.fixture
def topic(kafka: Kafka) -> str:
    return kafka.create_topic(f"orders-{uuid.uuid4().hex[:8]}", partitions=2)


@pytest.fixture
def dead(kafka: Kafka) -> str:
    return kafka.create_topic(f"dead-{uuid.uuid4().hex[:8]}")


def _persist(kafka: Kafka, topic: str, dead: str, archive: Archive, log: Path, config: list[str]) -> Persist:
    return Persist(
        log,
        source=f"{kafka.url}/{topic}",
        lake=archive.lake.url,
        lake_config=config,
        index=archive.index_url,
        dead_letter=f"{kafka.url}/{dead}",
        on_failure="dead_letter",
        give_up_after="2s",
    )


def _produce(kafka: Kafka, topic: str, count: int) -> dict[str, Message]:
    """Messages for both partitions; gives those that are new, by id."""
    before = expected(kafka, topic)
    kafka.produce(topic, [{"value": b"%d" % n, "partition": n % 2} for n in range(count)])
    return {id: message for id, message in expected(kafka, topic).items() if id not in before}


def _dead_ids(kafka: Kafka, dead: str) -> list[str]:
    letters = log_of(kafka, dead).values()
    return [dict(headers)["persistor-error-position"].decode() for _, _, headers, _ in letters]


def _wait_for_dead(kafka: Kafka, dead: str, wanted: dict[str, Message], persist: Persist) -> None:
    try:
        wait_until(lambda: set(_dead_ids(kafka, dead)) >= wanted.keys() and bool(persist.pid), 60, "letters")
    except TimeoutError as error:
        raise AssertionError(persist.output()) from error


def test_without_the_lake_messages_become_dead_letters_and_offsets_wait_until_it_is_back(
    kafka: Kafka, topic: str, dead: str, own_seaweed: Seaweed, tmp_path: Path
) -> None:
    archive = Archive(
        Lake(own_seaweed.create_bucket("lake"), own_seaweed.config), f"sqlite://{tmp_path}/index.db"
    )
    config = [f"{name}={value}" for name, value in own_seaweed.config.items()]
    with _persist(kafka, topic, dead, archive, tmp_path / "log", config) as persist:
        first = _produce(kafka, topic, 1000)
        archive.wait_for(first, persist, 60)
        wait_until(lambda: committed(kafka, topic, archive) == 1000, 60, "a commit")
        own_seaweed.kill()
        lost = _produce(kafka, topic, 3000)
        _wait_for_dead(kafka, dead, lost, persist)
        assert committed(kafka, topic, archive) == 1000
        own_seaweed.start()
        wait_until(lambda: committed(kafka, topic, archive) == 4000, 60, "what was given up to be claimed")
        second = _produce(kafka, topic, 500)
        archive.wait_for(second, persist, 60)
        assert sorted(_dead_ids(kafka, dead)) == sorted(lost)
        own_seaweed.kill()
        again = _produce(kafka, topic, 700)
        _wait_for_dead(kafka, dead, again, persist)
        persist.kill()
        own_seaweed.start()
        persist.start()
        archive.wait_for(again, persist, 60)
        persist.drain()
    archive.check({**first, **second, **again})
    assert sorted(_dead_ids(kafka, dead)) == sorted([*lost, *again])


def test_what_was_claimed_and_cannot_be_written_becomes_dead_letters(
    kafka: Kafka, topic: str, dead: str, tmp_path: Path
) -> None:
    archive = Archive(Lake(f"file://{tmp_path}/lake"), f"sqlite://{tmp_path}/index.db")
    archive.lake.put_new(topic, b"a file where a directory is needed")
    with _persist(kafka, topic, dead, archive, tmp_path / "log", []) as persist:
        lost = _produce(kafka, topic, 1000)
        _wait_for_dead(kafka, dead, lost, persist)
        wait_until(lambda: committed(kafka, topic, archive) == 1000, 60, "their acknowledgement")
        (tmp_path / "lake" / topic).unlink()
        rest = _produce(kafka, topic, 100)
        archive.wait_for(rest, persist, 60)
        persist.drain()
    archive.check(rest)
    assert sorted(_dead_ids(kafka, dead)) == sorted(lost)
    why = {
        (dict(headers)["persistor-error-stage"], dict(headers)["persistor-error-category"])
        for _, _, headers, _ in log_of(kafka, dead).values()
    }
    assert why == {(b"write", b"gave_up")}
