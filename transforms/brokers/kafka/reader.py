"""Reading Kafka partitions by position."""

from __future__ import annotations

import contextlib
import fnmatch
import operator
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from transforms.brokers import Acknowledgement, Fetched, OffsetGapError, Partition
from transforms.brokers.kafka.client import (
    TIMEOUT,
    Client,
    GoneError,
    client_config,
    configured,
    only_for_clients,
    split_url,
)
from transforms.brokers.kafka.preflight import examine_source, retention
from transforms.errors import ConfigurationError, TransientError
from transforms.model import HEADERS, MESSAGE_SCHEMA, UTC_MICROSECONDS
from transforms.secrets import resolve

__all__ = ["KafkaReader", "open_reader"]

_LATEST = ((1 << 63) - 1) // 1000
"""Milliseconds that fit 64 bits as microseconds."""
_OURS = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
}
_DEFAULTS = {
    # A full queue makes librdkafka pause for this long; its default of 1000 ms costs two thirds of the rate.
    "fetch.queue.backoff.ms": 20,
    "queued.min.messages": 500_000,
    # Bounds what is prefetched, for all partitions together.
    "queued.max.messages.kbytes": 65_536,
}
_PATTERN_CHARACTERS = set("*?[")
_ROWS_PER_POLL = 10_000
_GATHER = 0.02
_NOWHERE = -1


def open_reader(
    url: str,
    config: Mapping[str, str],
    *,
    shard: tuple[int, int] = (0, 1),
    group: str,
    exclude: Sequence[str] = (),
) -> KafkaReader:
    """Open ``kafka://HOST:PORT[,HOST:PORT…]/TOPIC[,TOPIC…]``; a topic may be a glob pattern.

    Raises:
        ConfigurationError: a URL without hosts or topics, a property that librdkafka does not
            know, or one that Persistor must set itself.
    """
    servers, topics = split_url(resolve(url, "kafka://…"))
    return KafkaReader(client_config(servers, config, _DEFAULTS, _OURS), topics, shard, group, exclude)


class KafkaReader(Client):
    """Reads the partitions of one shard; see :class:`transforms.brokers.Reader`."""

    positions = True

    def __init__(
        self,
        config: dict[str, Any],
        topics: Sequence[str],
        shard: tuple[int, int],
        group: str,
        exclude: Sequence[str],
    ) -> None:
        """Connect; see :func:`open_reader`."""
        super().__init__(config)
        self._names = {topic for topic in topics if not _PATTERN_CHARACTERS & set(topic)}
        refused = [name for name in sorted(self._names) if _matches_any(name, exclude)]
        if refused:
            raise ConfigurationError([f"kafka: topic {name!r} is named and excluded." for name in refused])
        self._patterns = [topic for topic in topics if topic not in self._names]
        self._shard = shard
        self._exclude = exclude
        self._seen: set[str] = set()
        self._positions: dict[Partition, int] = {}
        self._ends: dict[Partition, int] = {}
        self._gaps: dict[Partition, bool] = {}
        settings = {"group.id": group, **config, "error_cb": self.note_error}
        self._consumer = configured(lambda: Consumer(settings))
        self._admin = self.hears(configured(lambda: AdminClient(only_for_clients(settings))))

    def identity(self) -> str:
        """The cluster's id."""
        return str(self.ask(lambda: self._admin.list_topics(timeout=TIMEOUT)).cluster_id)

    def discover(self) -> Mapping[Partition, str]:
        """This shard's partitions, each with its topic's id."""
        topics = self.ask(lambda: self._admin.list_topics(timeout=TIMEOUT)).topics
        there = {name for name, topic in topics.items() if topic.error is None}
        missing = sorted(self._names - there - self._seen)
        if missing:
            raise ConfigurationError(
                f"kafka: topic {name!r} does not exist at this cluster (or this user may not see it)."
                for name in missing
            )
        matched = sorted(name for name in there if self._matches(name))
        self._seen.update(matched)
        ids = self._topic_ids(matched)
        found = (Partition(name, number) for name in matched for number in topics[name].partitions)
        return {p: ids[p.topic] for p in found if p.topic in ids and self._is_mine(p)}

    def committed(self, partition: Partition) -> tuple[int, str] | None:
        """The group's offset and its metadata."""
        wanted = [TopicPartition(partition.topic, partition.number)]
        [found] = self.ask(lambda: self._consumer.committed(wanted, timeout=TIMEOUT))
        return None if found.offset < 0 else (found.offset, found.metadata or "")

    def earliest(self, partition: Partition) -> int:
        """The partition's low watermark, asked of the broker."""
        return self._watermarks(partition)[0]

    def latest(self, partition: Partition) -> int:
        """The partition's read-committed end, asked of the broker."""
        return self._watermarks(partition)[1]

    def _watermarks(self, partition: Partition) -> tuple[int, int]:
        wanted = TopicPartition(partition.topic, partition.number)
        low, high = self.ask(
            lambda: self._consumer.get_watermark_offsets(wanted, timeout=TIMEOUT, cached=False)
        )
        return low, high

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read exactly these partitions, each from its position."""
        changed = {p: at for p, at in positions.items() if self._positions.get(p) != at}
        dropped = [p for p in self._positions if p not in positions or p in changed]
        if dropped:
            self.ask(lambda: self._consumer.incremental_unassign([_plain(p) for p in dropped]))
        for partition in dropped:
            self._ends.pop(partition, None)
            self._gaps.pop(partition, None)
            del self._positions[partition]
        if changed:
            starts = [TopicPartition(p.topic, p.number, at) for p, at in changed.items()]
            self.ask(lambda: self._consumer.incremental_assign(starts))
            self._positions.update(changed)

    def poll(self, seconds: float) -> list[Fetched]:
        """Up to 10,000 messages, grouped by partition; waits up to ``seconds``."""
        if self._gaps:
            gaps = {p: self._first_there(p, late=late) for p, late in self._gaps.items()}
            self._positions.update(dict.fromkeys(gaps, _NOWHERE))
            self._gaps = {}
            raise OffsetGapError(gaps)
        messages = self.ask(lambda: self._consumer.consume(1, seconds))
        if messages:
            # librdkafka waits for as many as it is asked for: a moment is enough to make it worth while.
            # The first one is read already: what is wrong here, the next poll says.
            with contextlib.suppress(KafkaException):
                messages += self._consumer.consume(_ROWS_PER_POLL - 1, _GATHER)
        good = messages if not any(map(Message.error, messages)) else self._without_errors(messages)
        groups = _by_partition(good, several=len(self._seen) > 1)
        fetched = [_fetched(topic, number, group) for topic, number, group in groups]
        self._positions.update({one.partition: one.position for one in fetched})
        return fetched + self._at_ends()

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Commit the offsets for the group, waiting for the broker's answer."""
        offsets = [
            TopicPartition(a.partition.topic, a.partition.number, a.position, metadata=a.note)
            for a in acknowledgements
        ]
        done = self.ask(lambda: self._consumer.commit(offsets=offsets, asynchronous=False))
        failed = [tp.error for tp in done or () if tp.error is not None]
        if failed:
            raise TransientError(f"kafka: offset commit failed: {failed[0]}")

    def release(self, receipts: Sequence[Any]) -> None:
        """Nothing: what is not committed is read again."""

    def retention(self, partition: Partition) -> float | None:
        """See :class:`transforms.brokers.Reader`."""
        return retention(self, self._admin, partition.topic)

    def examine(self, partition: Partition) -> tuple[list[str], list[str]]:
        """See :class:`transforms.brokers.Reader`."""
        return examine_source(self, self._admin, partition.topic)

    def lag(self) -> Mapping[Partition, int]:
        """Messages up to the end, 0 where the end was met even if markers lie behind the last message."""
        lags = {p: self._partition_lag(p, at) for p, at in list(self._positions.items())}
        return {p: lag for p, lag in lags.items() if lag is not None}

    def close(self) -> None:
        """Leave the group's offsets as they are."""
        self._consumer.close()

    def _partition_lag(self, partition: Partition, position: int) -> int | None:
        reached = max(position, self._ends.get(partition, 0))
        _, high = self._consumer.get_watermark_offsets(_plain(partition), cached=True) or (0, -1)
        return max(0, high - reached) if high >= 0 else None

    def _without_errors(self, messages: list[Message]) -> list[Message]:
        positions = dict(self._positions)
        for message in messages:
            error, partition = message.error(), Partition(message.topic(), message.partition())
            if error is None:
                positions[partition] = message.offset() + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                self._ends[partition] = message.offset()
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
                if partition in positions:
                    self._gaps[partition] = message.offset() != positions[partition]
            else:
                self.note_error(error)
        return [message for message in messages if message.error() is None]

    def _first_there(self, partition: Partition, *, late: bool) -> int:
        """Where reading can go on after the client has missed a position.

        Args:
            late: it is not the one that is read: it is from before the partition was assigned anew.
        """
        low, high = self._watermarks(partition)
        position = self._positions[partition]
        return position if late and low <= position <= high else low

    def _at_ends(self) -> list[Fetched]:
        """Nothing, but further: transaction markers and compacted messages lie before the end."""
        further = {p: end for p, end in self._ends.items() if end > self._positions.get(p, end) >= 0}
        self._positions.update(further)
        return [Fetched(p, MESSAGE_SCHEMA.empty_table(), end) for p, end in further.items()]

    def _topic_ids(self, names: list[str]) -> dict[str, str]:
        if not names:
            return {}
        futures = self._admin.describe_topics(TopicCollection(names), request_timeout=TIMEOUT)
        found = {name: self._topic_id(future) for name, future in futures.items()}
        return {name: id for name, id in found.items() if id}

    def _topic_id(self, future: Future[Any]) -> str:
        try:
            return str(self.ask(future.result).topic_id)
        except GoneError:
            return ""

    def _matches(self, name: str) -> bool:
        if name in self._names:
            return True
        return _matches_any(name, self._patterns) and not _matches_any(name, ("__*", *self._exclude))

    def _is_mine(self, partition: Partition) -> bool:
        number, of = self._shard
        return zlib.crc32(f"{partition.topic}/{partition.number}".encode()) % of == number


def _matches_any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _plain(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.number)


def _by_partition(messages: list[Message], *, several: bool) -> Iterator[tuple[str, int, list[Message]]]:
    """Stable groups; librdkafka gives runs of one partition, so runs are sorted, not messages.

    Args:
        several: whether they may be of several topics.
    """
    if not messages:
        return iter(())
    numbers = np.fromiter(map(Message.partition, messages), np.int32, len(messages))
    changes = numbers[1:] != numbers[:-1]
    if several:
        names = np.fromiter(map(Message.topic, messages), object, len(messages))
        changes |= names[1:] != names[:-1]
    starts = [0, *(np.flatnonzero(changes) + 1).tolist()]
    runs: dict[tuple[str, int], list[Message]] = {}
    for start, end in zip(starts, [*starts[1:], len(messages)], strict=True):
        first = messages[start]
        runs.setdefault((first.topic(), first.partition()), []).extend(messages[start:end])
    return ((topic, number, group) for (topic, number), group in runs.items())


def _fetched(topic: str, number: int, messages: list[Message]) -> Fetched:
    rows = len(messages)
    offsets = np.fromiter(map(Message.offset, messages), np.int64, rows)
    table = pa.table(
        [
            pa.nulls(rows, pa.string()),
            pa.repeat(pa.scalar(topic, pa.string()), rows),
            pa.repeat(pa.scalar(number, pa.int32()), rows),
            pa.array(offsets),
            _times(messages),
            pa.array(list(map(Message.key, messages)), pa.binary()),
            pa.array(list(map(Message.value, messages)), pa.binary()),
            _headers(messages),
        ],
        schema=MESSAGE_SCHEMA,
    )
    return Fetched(Partition(topic, number), table, int(offsets[-1]) + 1)


def _headers(messages: list[Message]) -> pa.Array:
    found: list[Any] = []
    unreadable = np.zeros(len(messages), np.bool_)
    each = map(Message.headers, messages)
    while len(found) < len(messages):
        try:
            found.extend(each)
        except SystemError as error:  # so the client fails at a name that is not UTF-8
            if not isinstance(error.__cause__, UnicodeDecodeError):
                raise
            unreadable[len(found)] = True
            found.append(None)
    headers = pa.array(found, HEADERS)
    # Where a message has none the client gives None; without a mask of nulls that is an empty list.
    mask = pa.array(unreadable) if unreadable.any() else None
    return pa.ListArray.from_arrays(headers.offsets, headers.values, type=HEADERS, mask=mask)


def _times(messages: list[Message]) -> pa.Array:
    """Milliseconds of the record; null where the topic's format has no time (-1)."""
    stamps = map(operator.itemgetter(1), map(Message.timestamp, messages))
    milliseconds = np.fromiter(stamps, np.int64, len(messages))
    # Producers may give times that do not fit 64 bits as microseconds: those are the latest that do.
    microseconds = np.minimum(milliseconds, _LATEST) * 1000
    return pa.array(microseconds, UTC_MICROSECONDS, mask=milliseconds < 0)
