"""Which topics and partitions a Kafka reader reads."""

from __future__ import annotations

import fnmatch
import re
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from transforms.brokers import Partition
from transforms.brokers._patterns import say_unmatched
from transforms.brokers.kafka.client import TIMEOUT, Client, GoneError
from transforms.errors import ConfigurationError, TransientError

__all__ = ["Topics", "first_offsets"]

_PATTERN_CHARACTERS = set("*?[")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_GLOBS = "Patterns are globs (* any text, ? any character, [ab] one of these), not regular expressions."


class Topics:
    """The topics that are named or match a pattern, and of their partitions those of one shard."""

    def __init__(
        self,
        client: Client,
        admin: AdminClient,
        topics: Sequence[str],
        shard: tuple[int, int],
        exclude: Sequence[str],
    ) -> None:
        """Nothing is asked yet; see :func:`transforms.brokers.kafka.reader.open_reader`.

        Raises:
            ConfigurationError: a topic is named and excluded.
        """
        self._names = {topic for topic in topics if not _PATTERN_CHARACTERS & set(topic)}
        refused = [name for name in sorted(self._names) if _matches_any(name, exclude)]
        if refused:
            raise ConfigurationError([f"kafka: topic {name!r} is named and excluded." for name in refused])
        self._patterns = [topic for topic in topics if topic not in self._names]
        self._unmatched = self._patterns
        self._client, self._admin = client, admin
        self._shard = shard
        self._exclude = exclude
        self._seen: set[str] = set()

    def discover(self) -> Mapping[Partition, str]:
        """This shard's partitions, each with its topic's id. Raises as the reader's method does."""
        topics = self._client.ask(lambda: self._admin.list_topics(timeout=TIMEOUT)).topics
        there = {name for name, topic in topics.items() if topic.error is None}
        missing = sorted(self._names - there - self._seen)
        if missing:
            raise ConfigurationError(
                f"kafka: topic {name!r} does not exist at this cluster (or this user may not see it)."
                f"{'' if _NAME.fullmatch(name) else f' {_GLOBS}'}"
                for name in missing
            )
        matched = sorted(name for name in there if self._matches(name))
        self._unmatched = [one for one in self._unmatched if not fnmatch.filter(matched, one)]
        say_unmatched("kafka", self._unmatched, _GLOBS)
        self._seen.update(matched)
        ids = self._topic_ids(matched)
        found = (Partition(name, number) for name in matched for number in topics[name].partitions)
        return {p: ids[p.topic] for p in found if p.topic in ids and self._is_mine(p)}

    def incarnations(self, partitions: Collection[Partition]) -> Mapping[Partition, str]:
        """As :meth:`discover`, of these partitions, without asking for any other topic."""
        ids = self._topic_ids(sorted({partition.topic for partition in partitions}))
        return {partition: ids[partition.topic] for partition in partitions if partition.topic in ids}

    def _topic_ids(self, names: list[str]) -> dict[str, str]:
        if not names:
            return {}
        futures = self._admin.describe_topics(TopicCollection(names), request_timeout=TIMEOUT)
        found = {name: self._topic_id(future) for name, future in futures.items()}
        return {name: id for name, id in found.items() if id}

    def _topic_id(self, future: Future[Any]) -> str:
        try:
            return str(self._client.ask(future.result).topic_id)
        except GoneError:
            return ""

    def _matches(self, name: str) -> bool:
        if name in self._names:
            return True
        return _matches_any(name, self._patterns) and not _matches_any(name, ("__*", *self._exclude))

    def _is_mine(self, partition: Partition) -> bool:
        number, of = self._shard
        return zlib.crc32(f"{partition.topic}/{partition.number}".encode()) % of == number


def first_offsets(
    client: Client, admin: AdminClient, partitions: Collection[Partition]
) -> Mapping[Partition, int]:
    """The first offset of each partition, without those whose leader does not answer.

    Raises:
        ConfigurationError: the broker refuses this user.
        TransientError: no leader answers.
    """
    if not partitions:
        return {}
    wanted = {TopicPartition(one.topic, one.number): OffsetSpec.earliest() for one in partitions}
    asked = client.ask(lambda: admin.list_offsets(wanted, request_timeout=TIMEOUT))
    found, failure = dict[Partition, int](), None
    for one, future in asked.items():
        try:
            found[Partition(one.topic, one.partition)] = client.ask(future.result).offset
        except TransientError as error:
            failure = error
    if failure is not None and not found:
        raise failure
    return found


def _matches_any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
