"""Publishing to one Kafka topic, in transactions (with a name) or idempotently (without)."""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, NoReturn, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from transforms.brokers import Destination, Publisher, PublishOptions, Undelivered
from transforms.brokers.kafka.client import (
    TIMEOUT,
    Client,
    GoneError,
    client_config,
    configured,
    only_for_clients,
    split_url,
)
from transforms.brokers.kafka.preflight import ACLS, look_up
from transforms.errors import ConfigurationError, PersistorError, TransientError
from transforms.secrets import resolve

__all__ = ["KafkaPublisher", "TransactionalKafkaPublisher", "open_publisher"]

_OURS = {"enable.idempotence": True, "acks": "all"}
_DEFAULTS = {
    # Java's default: librdkafka's own would put keys on other partitions than the live producers do.
    "partitioner": "murmur2_random",
    "linger.ms": 20,
    "compression.type": "lz4",
    "queue.buffering.max.kbytes": 65_536,
    # Larger limits are the broker's to enforce; this one is the client's own.
    "message.max.bytes": 100_000_000,
    "delivery.timeout.ms": 60_000,
}
_OWN_FAULT = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.INVALID_RECORD,
    KafkaError.RECORD_LIST_TOO_LARGE,
}
_MOST_TOLD_APART = 100
_GRACE = 2.0
_ANY_PARTITION = -1
_NOW = 0
_Headers = list[tuple[str, "bytes | None"]]
_T = TypeVar("_T")


def open_publisher(url: str, config: Mapping[str, str], *, name: str | None = None) -> Publisher:
    """Open ``kafka://HOST:PORT[,…]/TOPIC``.

    Raises:
        ConfigurationError: not exactly one topic, or a property that librdkafka does not know
            or that Persistor must set itself.
    """
    servers, topics = split_url(resolve(url))
    if len(topics) != 1:
        raise ConfigurationError(f"{url!r}: a destination is exactly one topic.")
    settings = client_config(servers, config, _DEFAULTS, _OURS)
    if name is None:
        return KafkaPublisher(settings, topics[0])
    return TransactionalKafkaPublisher(settings, topics[0], name)


class KafkaPublisher(Client):
    """Idempotent: in order and without repeats for as long as its process lives."""

    def __init__(self, settings: dict[str, Any], topic: str) -> None:
        """Connect; see :func:`open_publisher`."""
        super().__init__()
        self._topic = topic
        self._settings = {**settings, "error_cb": self.note_error}
        self._sent: list[tuple[pa.Table, PublishOptions]] = []
        self._refused: dict[str, str] = {}
        self._failed: list[tuple[KafkaError, bytes | None, bytes | None]] = []
        self._producer = configured(lambda: Producer(self._settings))

    def destination(self) -> Destination:
        """The topic's partitions, limits and retention."""
        return look_up(self, self._settings, self._topic)

    def begin(self) -> int | None:
        """Nothing is kept at the destination."""
        return None

    def send(self, messages: pa.Table, options: PublishOptions) -> None:
        """Queue rows in order; blocks while librdkafka's queue is full."""
        self._sent.append((messages, options))
        self._produce(messages, options)

    def commit(self, done: int) -> list[Undelivered]:  # noqa: ARG002 - nothing is kept here
        """Wait for every delivery report."""
        self._flush()
        refused = {**self._refused, **self._suspects()}
        self._forget()
        return [Undelivered(id, reason) for id, reason in refused.items()]

    def finish(self) -> None:
        """Nothing: only lanes keep progress at the destination."""

    def close(self) -> None:
        """Drop what is queued."""
        self._producer.purge()
        with contextlib.suppress(PersistorError):  # nothing is wanted of the broker any more
            self._serve(lambda: self._producer.flush(TIMEOUT))

    def _produce(self, messages: pa.Table, options: PublishOptions, alone: Container[str] = ()) -> None:
        """Queue rows, those in ``alone`` each in a request of its own; stops where one was refused."""
        # By position, and without a call of ours: this is a third of what a message costs here.
        produce, topic, report = self._producer.produce, self._topic, self._report
        for id, value, key, headers, partition, time in _rows(messages, options):
            while True:
                try:
                    produce(topic, value, key, partition, report, timestamp=time, headers=headers)
                    break
                except BufferError:
                    self._serve(lambda: self._producer.poll(0.1))
                except KafkaException as exception:
                    if not self._goes_on_behind(id, exception):
                        return
                    break
            if id in alone:
                self._flush()
                if self._failed:
                    return
        self._serve(lambda: self._producer.poll(0))

    def _goes_on_behind(self, id: str, exception: KafkaException) -> bool:
        """Note a message that is refused for what it is; others end it all."""
        if exception.args[0].code() in _OWN_FAULT:
            self._refused[id] = exception.args[0].str()
            return True
        if not self._failed:  # a transaction that must be aborted takes nothing more
            self._serve(lambda: self._producer.poll(0))  # tells what was fatal, such as fencing
            self.ask(functools.partial(_raise, exception))
        return False

    def _report(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed.append((error, message.key(), message.value()))

    def _flush(self) -> None:
        while self._serve(lambda: self._producer.flush(TIMEOUT)):
            pass
        lost = [error for error, _, _ in self._failed if error.code() not in _OWN_FAULT]
        if lost:
            count, error = len(lost), lost[0]
            self._forget()
            raise TransientError(f"kafka: {count} messages were not confirmed: {error.str()}")

    def _suspects(self) -> dict[str, str]:
        """Ids whose delivery failed, with the reason; found by content, which shares its fate."""
        if not self._failed:
            return {}
        reasons = {(key, value): error.str() for error, key, value in self._failed}
        found: dict[str, str] = {}
        for messages, _ in self._sent:
            contents = zip(messages["key"].to_pylist(), messages["data"].to_pylist(), strict=True)
            ids = zip(messages["id"].to_pylist(), contents, strict=True)
            found.update({id: reasons[content] for id, content in ids if content in reasons})
        return found

    def _forget(self) -> None:
        self._sent, self._refused, self._failed = [], {}, []

    def _serve(self, call: Callable[[], _T]) -> _T:
        """Call what serves callbacks; a fatal error comes out of there as a SystemError's cause."""
        try:
            return self.ask(call)
        except SystemError as error:
            if not isinstance(error.__cause__, KafkaException):
                raise
            cause = error.__cause__
            return self.ask(functools.partial(_raise, cause))


class TransactionalKafkaPublisher(KafkaPublisher):
    """Exactly once: messages and the lane's progress are committed in one transaction."""

    def __init__(self, settings: dict[str, Any], topic: str, name: str) -> None:
        """Connect; nothing is fenced before :meth:`begin`."""
        # A report of each message wakes whoever waits for a few; of many it costs time of its own.
        for_many = {"transactional.id": f"persistor-{name}", "delivery.report.only.error": True}
        super().__init__({**settings, **for_many}, topic)
        self._began = self._open = False
        # A transaction's offsets need a partition that exists; the destination's first one does.
        self._ledger = TopicPartition(topic, 0)
        for_consumer = {k: v for k, v in settings.items() if k not in _DEFAULTS and k not in _OURS}
        self._group_id = f"persistor-resubmission-{name}"
        group = {"group.id": self._group_id, "enable.auto.commit": False}
        self._group = configured(lambda: Consumer({**for_consumer, **group}))

    def begin(self) -> int | None:
        """Fence and abort an older publisher of this name, then read the committed progress.

        Raises:
            ConfigurationError: the broker refuses this user; says which ACLs are needed.
        """
        try:
            return self._begin()
        except ConfigurationError as error:
            raise ConfigurationError([*error.problems, ACLS]) from error

    def _begin(self) -> int | None:
        if self._began:  # librdkafka takes up transactions once in a producer's life
            self._producer = configured(lambda: Producer(self._settings))
        self._began, self._open = True, False
        self._forget()
        self._serve(lambda: self._producer.init_transactions(TIMEOUT * 3))
        [found] = self.ask(lambda: self._group.committed([self._ledger], timeout=TIMEOUT))
        return None if found.offset < 0 else int(found.offset)

    def send(self, messages: pa.Table, options: PublishOptions) -> None:
        """Send within the open transaction, opening one where none is."""
        self._ensure_open()
        super().send(messages, options)

    def commit(self, done: int) -> list[Undelivered]:
        """Commit messages and ``done`` together; what the broker refuses is left out and reported.

        Raises:
            TransientError: nothing was committed, or it is not known: begin again.
            FencedError: a newer publisher has taken this lane over.
        """
        self._ensure_open()
        self._flush()
        refused: dict[str, str] = {}
        alone: set[str] = set()
        while suspects := self._suspects():
            # A broker refuses whole requests: each suspect goes alone once, to tell the guilty.
            if suspects.keys() <= alone or len(refused) >= _MOST_TOLD_APART:
                refused.update(suspects)
            alone.update(suspects)
            self._send_again(refused, alone)
        refused.update(self._refused)
        position = TopicPartition(self._ledger.topic, self._ledger.partition, done)
        group = self._group.consumer_group_metadata()
        self._within_timeout(
            functools.partial(self._producer.send_offsets_to_transaction, [position], group, TIMEOUT)
        )
        self._serve(lambda: self._producer.commit_transaction(TIMEOUT * 3))
        self._open = False
        self._forget()
        return [Undelivered(id, reason) for id, reason in refused.items()]

    def finish(self) -> None:
        """Delete the group that holds the lane's progress."""
        admin = self.hears(AdminClient(only_for_clients(self._settings)))
        [future] = admin.delete_consumer_groups([self._group_id], request_timeout=TIMEOUT).values()
        with contextlib.suppress(GoneError):
            self.ask(future.result)

    def close(self) -> None:
        """Abort what is open; where that fails, the next publisher of this name aborts it."""
        if self._open:
            self._producer.purge()
            with contextlib.suppress(PersistorError):
                self._serve(lambda: self._producer.abort_transaction(TIMEOUT))
        self._group.close()

    def _within_timeout(self, call: Callable[[], None]) -> None:
        """Call on a thread that is left behind where librdkafka forgets its own timeout.

        It does when the group's coordinator was restarted (librdkafka#5456, #5511); the producer
        is of no use then, and :meth:`begin` makes another.
        """
        outcome: Future[None] = Future()
        threading.Thread(target=_resolve, args=(outcome, lambda: self._serve(call)), daemon=True).start()
        try:
            outcome.result(TIMEOUT + _GRACE)
        except NotYet as error:
            raise TransientError("kafka: the group's coordinator does not answer") from error

    def _ensure_open(self) -> None:
        if not self._open:
            self._serve(self._producer.begin_transaction)
            self._open = True

    def _send_again(self, refused: Mapping[str, str], alone: Container[str]) -> None:
        """Abort and send again, in order, all but ``refused``."""
        self._producer.purge()
        self._serve(lambda: self._producer.abort_transaction(TIMEOUT))
        self._open, self._failed = False, []
        self._ensure_open()
        without = pa.array(list(refused), pa.string())
        for messages, options in self._sent:
            if not self._failed:
                kept = messages.filter(pc.invert(pc.is_in(messages["id"], without)))
                self._produce(kept, options, alone)
        self._flush()


def _rows(messages: pa.Table, options: PublishOptions) -> Iterator[tuple[Any, ...]]:
    """(id, value, key, headers, partition, time in ms) by row, made column by column."""
    rows = len(messages)
    partitions: Iterable[int] = itertools.repeat(_ANY_PARTITION, rows)
    if options.partitions == "original":
        partitions = pc.fill_null(messages["partition"], _ANY_PARTITION).to_pylist()
    times: Iterable[int] = itertools.repeat(_NOW, rows)
    if options.original_time:
        microseconds = pc.fill_null(messages["publish_time"].cast(pa.int64()), _NOW).to_numpy()
        times = np.floor_divide(microseconds, 1000).tolist()
    columns = (messages[name].to_pylist() for name in ("id", "data", "key"))
    return zip(*columns, _headers(messages, options), partitions, times, strict=True)


def _headers(messages: pa.Table, options: PublishOptions) -> list[_Headers]:
    """Each row's headers as (name, value) tuples, sliced from two flat lists."""
    lists = messages["headers"].combine_chunks()
    flat = lists.flatten()
    pairs = list(zip(flat.field("name").to_pylist(), flat.field("value").to_pylist(), strict=True))
    ends = np.cumsum(pc.list_value_length(lists).to_numpy(zero_copy_only=False)).tolist()
    bounds, extra = zip([0, *ends[:-1]], ends, strict=False), list(options.extra_headers)
    if extra:
        return [pairs[start:end] + extra for start, end in bounds]
    return [pairs[start:end] for start, end in bounds]


def _resolve(outcome: Future[None], call: Callable[[], None]) -> None:
    try:
        call()
        outcome.set_result(None)
    except BaseException as error:  # noqa: BLE001 - raised where the outcome is asked for
        outcome.set_exception(error)


def _raise(exception: BaseException) -> NoReturn:
    raise exception
