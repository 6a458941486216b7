"""Reads Kafka partitions by position."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from transforms.brokers import (
    AHEAD,
    NO_MARKS,
    Acknowledgement,
    Fetched,
    LogRewrittenError,
    Mark,
    OffsetGapError,
    Partition,
    Unreadable,
)
from transforms.brokers.kafka import native, records
from transforms.brokers.kafka.client import (
    REFUSED,
    TIMEOUT,
    Client,
    client_config,
    configured,
    only_for_clients,
    split_url,
)
from transforms.brokers.kafka.commits import Commits
from transforms.brokers.kafka.consuming import RESERVED, defaults
from transforms.brokers.kafka.preflight import examine_source, retention
from transforms.brokers.kafka.records import Run
from transforms.brokers.kafka.topics import Topics, first_offsets
from transforms.errors import PermanentError
from transforms.model import MESSAGE_SCHEMA
from transforms.secrets import resolve

__all__ = ["KafkaReader", "open_reader"]

_FIRST_ROWS, _MOST_ROWS = 100, 10_000
_RETRY_AFTER = 1.0
_LAST_COMMIT = 5.0


def open_reader(
    url: str,
    config: Mapping[str, str],
    *,
    shard: tuple[int, int] = (0, 1),
    group: str,
    exclude: Sequence[str] = (),
    memory: int = AHEAD,
) -> KafkaReader:
    """Open ``kafka://HOST:PORT[,HOST:PORT…]/TOPIC[,TOPIC…]``; a topic may be a glob pattern.

    Raises:
        ConfigurationError: a URL without hosts or topics, or a property that is unknown to librdkafka or
            set by Persistor itself.
    """
    servers, topics = split_url(resolve(url, "kafka://…"))
    return KafkaReader(
        client_config(servers, config, defaults(memory), RESERVED),
        topics,
        shard,
        group,
        exclude,
        memory=memory,
    )


class KafkaReader(Client):
    """Reads the partitions of one shard; see :class:`transforms.brokers.Reader`."""

    positions = True
    reads_freely = True

    def __init__(
        self,
        config: dict[str, Any],
        topics: Sequence[str],
        shard: tuple[int, int],
        group: str,
        exclude: Sequence[str],
        *,
        memory: int,
    ) -> None:
        """Connect; see :func:`open_reader`."""
        super().__init__(config)
        self._positions: dict[Partition, int] = {}
        self._ends: dict[Partition, int] = {}
        self._ended: dict[Partition, int] = {}
        self._highs: dict[Partition, int] = {}
        self._gaps: dict[Partition, bool] = {}
        self._failed: dict[Partition, float] = {}
        self._begun: dict[Partition, int] = {}
        self._rewritten: dict[Partition, str] = {}
        self._unreadable: list[Unreadable] = []
        self._fatal: KafkaError | None = None
        self._commits = Commits()
        self._memory = memory
        self._rows = _FIRST_ROWS
        why_not = native.why_not()
        self._consume = records.consume if why_not else native.consume
        self.way = native.IN_C if why_not is None else native.IN_PYTHON.format(why_not)
        settings = {
            "group.id": group,
            **config,
            "error_cb": self.note_error,
            "on_commit": self._commits.answered,
        }
        self._consumer = configured(lambda: Consumer(settings))
        plain = {name: value for name, value in settings.items() if name != "on_commit"}
        self._admin = self.hears(configured(lambda: AdminClient(only_for_clients(plain))))
        self._topics = Topics(self, self._admin, topics, shard, exclude)

    def note_error(self, error: KafkaError) -> None:
        """See :class:`Client`; after a fatal error :meth:`poll` raises ``PermanentError``."""
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001
            self._fatal = error
        else:
            super().note_error(error)

    def identity(self) -> str:
        """The cluster's id."""
        return str(self.ask(lambda: self._admin.list_topics(timeout=TIMEOUT)).cluster_id)

    def discover(self) -> Mapping[Partition, str]:
        """This shard's partitions, each with its topic's id."""
        return self._topics.discover()

    def incarnations(self, partitions: Collection[Partition]) -> Mapping[Partition, str]:
        """The ids of their topics, and of no other topic."""
        return self._topics.incarnations(partitions)

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, tuple[int, str]]:
        """The group's offsets and their metadata."""
        wanted = [_plain(partition) for partition in partitions]
        found = self.ask(lambda: self._consumer.committed(wanted, timeout=TIMEOUT)) if wanted else []
        return {Partition(o.topic, o.partition): (o.offset, o.metadata or "") for o in found if o.offset >= 0}

    def earliest(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """The partitions' low watermarks, from their brokers."""
        return first_offsets(self, self._admin, partitions)

    def latest(self, partition: Partition) -> int:
        """The partition's read-committed end, from the broker."""
        return self._watermarks(partition)[1]

    def _watermarks(self, partition: Partition) -> tuple[int, int]:
        wanted = TopicPartition(partition.topic, partition.number)
        low, high = self.ask(
            lambda: self._consumer.get_watermark_offsets(wanted, timeout=TIMEOUT, cached=False)
        )
        return low, high

    def assign(self, positions: Mapping[Partition, int], marks: Mapping[Partition, Mark] = NO_MARKS) -> None:
        """Read exactly these partitions, each from its position, or from the mark before it.

        Between the two the client has nothing to give, or the log is another one.
        """
        now = time.monotonic()
        again = {p for p, at in self._failed.items() if at <= now}
        changed = {p: at for p, at in positions.items() if self._positions.get(p) != at or p in again}
        dropped = [p for p in self._positions if p not in positions or p in changed]
        if dropped:
            self.ask(lambda: self._consumer.incremental_unassign([_plain(p) for p in dropped]))
        for partition in dropped:
            if partition not in positions:
                self._highs.pop(partition, None)
            self._ends.pop(partition, None)
            self._gaps.pop(partition, None)
            self._failed.pop(partition, None)
            self._rewritten.pop(partition, None)
            self._begun.pop(partition, None)
            del self._positions[partition]
        if changed:
            starts = {p: _start(p, at, marks.get(p)) for p, at in changed.items()}
            self.ask(lambda: self._consumer.incremental_assign(list(starts.values())))
            self._positions.update(changed)
            self._begun.update({p: start.offset for p, start in starts.items()})
            self._compare({p: start for p, start in starts.items() if p in marks})

    def poll(self, seconds: float) -> list[Fetched]:
        """Up to 10,000 messages, fewer of large ones, grouped by partition; waits up to ``seconds``."""
        if self._fatal is not None:
            raise PermanentError(f"kafka: the client has failed permanently: {self._fatal.str()}")
        if self._rewritten:
            raise LogRewrittenError(self._rewritten)
        if self._gaps:
            gaps = {p: self._first_available(p, late=late) for p, late in self._gaps.items()}
            self._failed.update(dict.fromkeys(gaps, 0.0))
            self._gaps = {}
            raise OffsetGapError(gaps)
        self._commits.send(self._consumer)
        read = self._sound(self.ask(lambda: self._consume(self._consumer, self._rows, seconds)))
        self._positions.update({one.partition: one.position for one in read})
        self._fit(read)
        return read + self._ends_reached()

    def unreadable(self) -> Sequence[Unreadable]:
        """Partitions that the client could not read; each is tried again a second later."""
        found, self._unreadable = self._unreadable, []
        return found

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Have the offsets committed for the group: without waiting, and again until it succeeds."""
        self._commits.add(
            TopicPartition(a.partition.topic, a.partition.number, a.position, metadata=a.note)
            for a in acknowledgements
        )
        self._commits.send(self._consumer)

    def release(self, receipts: Sequence[Any]) -> None:
        """Does nothing: uncommitted messages are read again."""

    def retention(self, partition: Partition) -> float | None:
        """See :class:`transforms.brokers.Reader`."""
        return retention(self, self._admin, partition.topic)

    def examine(self, partition: Partition) -> tuple[list[str], list[str]]:
        """See :class:`transforms.brokers.Reader`."""
        return examine_source(self, self._admin, partition.topic)

    def lag(self) -> Mapping[Partition, int]:
        """Messages up to the end; 0 if the end was reached, even if markers follow the last message."""
        lags = {p: self._partition_lag(p, at) for p, at in list(self._positions.items())}
        return {p: lag for p, lag in lags.items() if lag is not None}

    def close(self) -> None:
        """Wait a moment for the last commit, and leave."""
        with contextlib.suppress(KafkaException):
            self._consumer.incremental_unassign([_plain(p) for p in self._positions])
            deadline = time.monotonic() + _LAST_COMMIT
            while not self._commits.settled and time.monotonic() < deadline:
                self._commits.send(self._consumer)
                self._consumer.consume(1, 0.1)
        # The client waits for a group's coordinator that is away; this process does not.
        closing = threading.Thread(target=self._consumer.close, daemon=True)
        closing.start()
        closing.join(_LAST_COMMIT)

    def _fit(self, read: Sequence[Fetched]) -> None:
        """Ask for fewer messages at a time where they are large: of each there are copies for a moment."""
        if rows := sum(len(one.messages) for one in read):
            size = sum(one.messages.nbytes for one in read) / rows
            self._rows = min(_MOST_ROWS, int(self._memory / 4 / size) + 2)

    def _partition_lag(self, partition: Partition, position: int) -> int | None:
        reached = max(position, self._ends.get(partition, 0))
        _, high = self._consumer.get_watermark_offsets(_plain(partition), cached=True) or (0, -1)
        if high < 0:  # assigned anew, as while it cannot be read
            high = self._highs.get(partition, -1)
        else:
            self._highs[partition] = high
        return max(0, high - reached) if high >= 0 else None

    def _sound(self, found: Sequence[Run | Message]) -> list[Fetched]:
        """Messages without errors, and per partition only those before its first error.

        After a batch that it could not read, the client does not return the next message.
        """
        good, positions, foreign = list[Fetched](), dict[Partition, int](), set[Partition]()
        for one in found:
            partition = one.fetched.partition if isinstance(one, Run) else _place(one)
            assigned = self._positions.get(partition)
            if partition in self._failed:
                continue
            if isinstance(one, Message):
                self._note(partition, one, positions.get(partition, assigned))
                continue
            positions[partition] = one.fetched.position
            if one.first < (assigned or 0):  # between the mark and the position there was nothing
                foreign.add(partition)
                self._rewritten[partition] = f"it has another message at offset {one.first}"
            if partition not in foreign:
                good.append(one.fetched)
        return good

    def _note(self, partition: Partition, message: Message, position: int | None) -> None:
        """Keep an error that the client returns instead of a message."""
        error = message.error()
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._ends[partition] = self._ended[partition] = message.offset()
        elif position is None or error.code() in REFUSED:
            self.note_error(error)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
            if message.offset() is None:  # so librdkafka says that the epochs differ
                self._rewritten[partition] = error.str()
            else:
                self._gaps[partition] = message.offset() not in {position, self._begun.get(partition)}
        else:
            self._failed[partition] = time.monotonic() + _RETRY_AFTER
            self._unreadable.append(Unreadable(partition, position, error.name(), error.str()))

    def _compare(self, starts: Mapping[Partition, TopicPartition]) -> None:
        """Have brokers compare epochs: the client does where it seeks, not always where it is assigned."""
        for partition, start in starts.items():
            try:
                self._consumer.seek(start)
            except KafkaException:
                self._failed[partition] = time.monotonic() + _RETRY_AFTER

    def _first_available(self, partition: Partition, *, late: bool) -> int:
        """Where reading can go on after the client has missed a position.

        Args:
            late: the error is from before the partition was assigned again.
        """
        low, high = self._watermarks(partition)
        position = self._positions[partition]
        passed = late or low > self._begun.get(partition, position)
        return position if passed and low <= position <= high else low

    def _ends_reached(self) -> list[Fetched]:
        """Empty results with a later position: transaction markers and compacted messages precede the end."""
        ended, self._ended = self._ended, {}
        further = {p: end for p, end in ended.items() if end > self._positions.get(p, end)}
        self._positions.update(further)
        return [Fetched(p, MESSAGE_SCHEMA.empty_table(), end) for p, end in further.items()]


def _start(partition: Partition, position: int, mark: Mark | None) -> TopicPartition:
    if mark is None:
        return TopicPartition(partition.topic, partition.number, position)
    return TopicPartition(partition.topic, partition.number, mark[0], leader_epoch=mark[1])


def _place(message: Message) -> Partition:
    return Partition(message.topic(), message.partition())


def _plain(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.number)
