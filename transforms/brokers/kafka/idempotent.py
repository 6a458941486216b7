"""Idempotent publisher for one Kafka topic: in order and without repeats while the process lives."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from transforms.brokers import Destination, PublishOptions, Undelivered
from transforms.brokers.kafka.client import TIMEOUT, Client, configured
from transforms.brokers.kafka.preflight import largest_batch, look_up
from transforms.errors import ConfigurationError, PersistorError, TransientError

__all__ = ["DEFAULTS", "OURS", "KafkaPublisher", "is_own_fault", "raised"]

OURS = {"enable.idempotence": True, "acks": "all"}
"""Properties of publishers that users may not change."""
DEFAULTS = {
    # Java's default: librdkafka's own would map keys to other partitions than most producers.
    "partitioner": "murmur2_random",
    "linger.ms": 20,
    "compression.type": "lz4",
    "queue.buffering.max.kbytes": 65_536,
    # The broker enforces larger limits; this one is the client's own.
    "message.max.bytes": 100_000_000,
    "delivery.timeout.ms": 60_000,
}
"""Default properties of publishers, which users may change."""
_OWN_FAULT = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.INVALID_RECORD,
    KafkaError.RECORD_LIST_TOO_LARGE,
}
_BATCH_BYTES = 1_000_000
_ANY_PARTITION = -1
_NOW = 0  # to librdkafka
_NO_TIME_US = -1000
_Headers = list[tuple[str, "bytes | None"]]
_T = TypeVar("_T")


class KafkaPublisher(Client):
    """Idempotent: in order and without repeats for as long as its process lives."""

    left_out: frozenset[str] = frozenset()

    def __init__(self, settings: dict[str, Any], topic: str) -> None:
        """Connect; see :func:`transforms.brokers.kafka.publisher.open_publisher`."""
        super().__init__(settings)
        self._topic = topic
        self._settings = {**settings, "error_cb": self.note_error}
        self._sent: list[tuple[pa.Table, PublishOptions]] = []
        # By row of what was sent since the last commit: equal messages may meet different fates.
        self._rows = 0
        self._refused: dict[int, str] = {}
        self._failed: list[tuple[int, KafkaError]] = []
        self._fitted = "batch.size" in settings
        self._known_partitions: int | None = None
        self._producer = configured(lambda: Producer(self._settings))

    def destination(self) -> Destination:
        """The topic's partitions, limits and retention."""
        return look_up(self, self._settings, self._topic)

    def begin(self) -> int | None:
        """Returns None: no progress is stored at the destination."""
        return None

    def send(self, messages: pa.Table, options: PublishOptions) -> None:
        """Queue rows in order; blocks while librdkafka's queue is full."""
        self._fit()
        self._queue(messages, options)

    def _queue(self, messages: pa.Table, options: PublishOptions) -> None:
        self._sent.append((messages, options))
        first, self._rows = self._rows, self._rows + len(messages)
        self._produce(messages, options, range(first, self._rows))

    def commit(self, done: int) -> list[Undelivered]:  # noqa: ARG002 - no progress is stored
        """Wait for every delivery report."""
        self._flush()
        refused = self._suspects()
        while self._failed:
            bystanders = {row for row, error in self._failed if _is_bystander(error)}
            # One whose message was refused may keep what it is given next.
            self._failed, self._producer = [], configured(lambda: Producer(self._settings))
            self._produce_again(set(range(self._rows)) - bystanders)
            self._flush()
            refused.update(self._suspects())
        undelivered = self._undelivered({**self._refused, **refused})
        self._forget()
        return undelivered

    def finish(self) -> None:
        """Does nothing: only lanes store progress at the destination."""

    def close(self) -> None:
        """Drop what is queued."""
        self._producer.purge()
        with contextlib.suppress(PersistorError):  # nothing is needed from the broker any longer
            self._serve(lambda: self._producer.flush(TIMEOUT))

    def _fit(self) -> None:
        """Limit batches to the size that the topic accepts: the broker's limit applies to batches."""
        if self._fitted:
            return
        try:
            most = largest_batch(self, self._settings, self._topic)
        except TransientError:
            return  # looked up again the next time
        except ConfigurationError:
            most = None  # this user may not see it
        self._fitted = True
        if most is not None and most < _BATCH_BYTES:
            self._settings["batch.size"] = most
            self._producer = configured(lambda: Producer(self._settings))

    def _produce(
        self, messages: pa.Table, options: PublishOptions, rows: Sequence[int], alone: Container[int] = ()
    ) -> None:
        """Queue messages, those of rows ``alone`` in requests of their own; stops where one was refused."""
        # Positional arguments without a wrapper: this call is a third of the cost per message.
        produce, topic = self._producer.produce, self._topic
        reports = map(functools.partial, itertools.repeat(self._report), rows)
        for row, report, (value, key, headers, partition, time) in zip(
            rows, reports, _messages(messages, options, self._partitions_of(messages, options)), strict=True
        ):
            while True:
                try:
                    produce(topic, value, key, partition, report, timestamp=time, headers=headers)
                    break
                except BufferError:
                    self._serve(lambda: self._producer.poll(0.1))
                except KafkaException as exception:
                    if not self._goes_on_behind(row, exception):
                        return
                    break
            if row in alone:
                self._flush()
                if self._failed:
                    return
        self._serve(lambda: self._producer.poll(0))

    def _partitions_of(self, messages: pa.Table, options: PublishOptions) -> Iterable[int]:
        """The partition of each row; without a key those of one source partition stay together, in order."""
        if options.partitions == "original":
            partitions: list[int] = pc.fill_null(messages["partition"], _ANY_PARTITION).to_pylist()
            return partitions
        alone = pc.and_(pc.is_null(messages["key"]), pc.is_valid(messages["partition"])).to_numpy()
        if not alone.any():
            return itertools.repeat(_ANY_PARTITION, len(messages))
        together = pc.fill_null(messages["partition"], 0).to_numpy() % self._topic_partitions()
        found: list[int] = np.where(alone, together, _ANY_PARTITION).tolist()
        return found

    def _topic_partitions(self) -> int:
        if self._known_partitions is None:
            listed = self.ask(lambda: self._producer.list_topics(self._topic, TIMEOUT))
            self._known_partitions = len(listed.topics[self._topic].partitions) or 1
        return self._known_partitions

    def _produce_again(self, left_out: Container[int], alone: Container[int] = ()) -> None:
        """Queue what was sent since the last commit again, in order, without some rows."""
        first = 0
        for messages, options in self._sent:
            if not self._failed:
                kept = [row for row in range(first, first + len(messages)) if row not in left_out]
                chosen = pa.array(kept, pa.int64())
                self._produce(messages.take(pc.subtract(chosen, first)), options, kept, alone)
            first += len(messages)

    def _goes_on_behind(self, row: int, exception: KafkaException) -> bool:
        """Record a message that is refused for its content; raise for all other errors."""
        if is_own_fault(exception.args[0]):
            self._refused[row] = exception.args[0].str()
            return True
        if not self._failed:
            self._flush()  # tells what was fatal, such as fencing, and what has spoiled a transaction
        if not self._failed:
            self.ask(functools.partial(raised, exception))
        return False

    def _report(self, row: int, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed.append((row, error))

    def _flush(self) -> None:
        while self._serve(lambda: self._producer.flush(TIMEOUT)):
            pass
        self._raise_lost()

    def _raise_lost(self) -> None:
        lost = [error for _, error in self._failed if not is_own_fault(error) and not _is_bystander(error)]
        if lost:
            count, error = len(lost), lost[0]
            self._forget()
            raise TransientError(f"kafka: {count} messages were not confirmed: {error.str()}")

    def _suspects(self) -> dict[int, str]:
        """Rows whose delivery was refused for what they or others of their request are, with the reason."""
        return {row: self._reason(row, error) for row, error in self._failed if is_own_fault(error)}

    def _reason(self, row: int, error: KafkaError) -> str:
        if error.code() == KafkaError.INVALID_RECORD and not self._column("key")[row].is_valid:
            return f"{error.str()}: it has no key, and a compacted topic refuses such messages"
        return error.str()

    def _undelivered(self, refused: Mapping[int, str]) -> list[Undelivered]:
        """What is reported of rows that were refused."""
        if not refused:
            return []
        ids = self._column("id")
        return [Undelivered(ids[row].as_py(), reason) for row, reason in refused.items()]

    def _column(self, name: str) -> pa.ChunkedArray:
        """One column of all rows that were sent since the last commit."""
        return pa.chunked_array([chunk for sent, _ in self._sent for chunk in sent[name].chunks])

    def _forget(self) -> None:
        self._sent, self._rows, self._refused, self._failed = [], 0, {}, []

    def _serve(self, call: Callable[[], _T]) -> _T:
        """Call a function that serves callbacks; a fatal error is raised as the cause of a SystemError."""
        try:
            return self.ask(call)
        except SystemError as error:
            if not isinstance(error.__cause__, KafkaException):
                raise
            cause = error.__cause__
            return self.ask(functools.partial(raised, cause))


def _messages(
    messages: pa.Table, options: PublishOptions, partitions: Iterable[int]
) -> Iterator[tuple[Any, ...]]:
    """(value, key, headers, partition, time in ms) by row, made column by column."""
    rows = len(messages)
    times: Iterable[int] = itertools.repeat(_NOW, rows)
    if options.original_time:
        microseconds = pc.fill_null(messages["publish_time"].cast(pa.int64()), _NO_TIME_US).to_numpy()
        times = np.floor_divide(microseconds, 1000).tolist()
    columns = (messages[name].to_pylist() for name in ("data", "key"))
    return zip(*columns, _headers(messages, options), partitions, times, strict=True)


def _headers(messages: pa.Table, options: PublishOptions) -> list[_Headers]:
    """The headers of each row as (name, value) tuples, sliced from two flat lists."""
    lists = messages["headers"].combine_chunks()
    flat = lists.flatten()
    pairs = list(zip(flat.field("name").to_pylist(), flat.field("value").to_pylist(), strict=True))
    ends = np.cumsum(pc.list_value_length(lists).to_numpy(zero_copy_only=False)).tolist()
    bounds, extra = zip([0, *ends[:-1]], ends, strict=False), list(options.extra_headers)
    if extra:
        return [pairs[start:end] + extra for start, end in bounds]
    return [pairs[start:end] for start, end in bounds]


def is_own_fault(error: KafkaError) -> bool:
    """Whether a message is refused for its content, by the client or by the broker."""
    return error.code() in _OWN_FAULT


def _is_bystander(error: KafkaError) -> bool:
    """Whether a message was not sent for the fault of another one of its request."""
    return bool(error.code() == KafkaError._INVALID_DIFFERENT_RECORD)  # noqa: SLF001 - a constant


def raised(exception: BaseException) -> NoReturn:
    """Raise the error, for use as a call."""
    raise exception
