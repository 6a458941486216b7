"""Publishes to one Kafka topic in transactions, which include the progress of a lane."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Collection, Container, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any

import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from transforms.brokers import UNNAMED, PublishOptions, Undelivered, digest
from transforms.brokers.kafka.client import TIMEOUT, GoneError, configured, only_for_clients
from transforms.brokers.kafka.idempotent import DEFAULTS, OURS, KafkaPublisher, is_own_fault
from transforms.brokers.kafka.preflight import ACLS
from transforms.errors import ConfigurationError, PersistorError, TransientError
from transforms.stop import stopping

__all__ = ["TransactionalKafkaPublisher"]

_MAX_SINGLED_OUT = 100
_MAX_DIGESTS = 400
"""Maximum digests that fit into the metadata of an offset, 4096 bytes."""
_GRACE = 2.0
_AROUND_DELIVERY_MS = 60_000
"""Milliseconds of a transaction that are not spent on deliveries: collecting, and the commit itself."""
_LOOK = 0.5
_PAUSE = 0.1


class TransactionalKafkaPublisher(KafkaPublisher):
    """Exactly once: messages and the lane's progress are committed in one transaction."""

    def __init__(self, settings: dict[str, Any], topic: str, name: str) -> None:
        """Connect; nothing is fenced before :meth:`begin`."""
        # A report per message wakes a waiter for few messages early, but costs time with many.
        for_many = {"transactional.id": f"persistor-{name}", "delivery.report.only.error": True}
        super().__init__({**_with_timeout(settings), **for_many}, topic)
        self._began = self._open = False
        # Offsets in a transaction need an existing partition; the destination's first one exists.
        self._ledger = TopicPartition(topic, 0)
        for_consumer = {k: v for k, v in settings.items() if k not in DEFAULTS and k not in OURS}
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
        self._fit()
        if self._began:  # librdkafka initialises transactions once per producer
            self._producer = configured(lambda: Producer(self._settings))
        self._began, self._open = True, False
        self._forget()
        self._initialise()
        [found] = self.ask(lambda: self._group.committed([self._ledger], timeout=TIMEOUT))
        self.left_out = frozenset((found.metadata or "").split())
        return None if found.offset < 0 else int(found.offset)

    def _initialise(self) -> None:
        """Wait for the coordinator in short steps, which a process that is asked to stop leaves."""
        until = time.monotonic() + TIMEOUT * 3
        while not self._is_initialised():
            time.sleep(_PAUSE)
            if stopping() or time.monotonic() >= until:
                raise TransientError(f"kafka at {self._servers}: the transaction coordinator does not answer")

    def _is_initialised(self) -> bool:
        """Go on initialising for a moment."""
        try:
            self._serve(lambda: self._producer.init_transactions(_LOOK))
        except TransientError as error:
            cause = error.__cause__
            if isinstance(cause, KafkaException) and _is_for_now(cause.args[0]):
                return False  # librdkafka continues with the next call
            raise
        return True

    def send(self, messages: pa.Table, options: PublishOptions) -> None:
        """Send within the open transaction, opening one if needed."""
        self._ensure_open()
        self._queue(messages, options)

    def commit(self, done: int) -> list[Undelivered]:
        """Commit messages and ``done`` together; refused messages are left out and reported.

        Raises:
            TransientError: nothing was committed, or it is not known: begin again.
            FencedError: it was shut out, and nothing was committed: begin again, and compare.
        """
        self._ensure_open()
        self._flush()
        refused: dict[int, str] = {}
        alone: set[int] = set()
        while suspects := self._suspects():
            # A broker refuses whole requests: each suspect goes alone once, to tell the guilty.
            if suspects.keys() <= alone or len(refused) >= _MAX_SINGLED_OUT:
                refused.update(suspects)
            alone.update(suspects)
            self._send_again(refused, alone)
        refused.update(self._refused)
        topic, partition = self._ledger.topic, self._ledger.partition
        undelivered = self._undelivered(refused)
        position = TopicPartition(topic, partition, done, metadata=_metadata([one.id for one in undelivered]))
        group = self._group.consumer_group_metadata()
        self._within_timeout(
            functools.partial(self._producer.send_offsets_to_transaction, [position], group, TIMEOUT)
        )
        self._serve(lambda: self._producer.commit_transaction(TIMEOUT * 3))
        self._open = False
        self._forget()
        return undelivered

    def _flush(self) -> None:
        # One refused message spoils the transaction: waiting messages would only time out.
        while self._serve(lambda: self._producer.flush(_LOOK)):
            if self._is_spoiled():
                self._producer.purge()
        if not self._is_spoiled():
            self._raise_lost()

    def _is_spoiled(self) -> bool:
        return any(is_own_fault(error) for _, error in self._failed)

    def finish(self) -> None:
        """Delete the group with the lane's progress."""
        admin = self.hears(AdminClient(only_for_clients(self._settings)))
        [future] = admin.delete_consumer_groups([self._group_id], request_timeout=TIMEOUT).values()
        with contextlib.suppress(GoneError):
            self.ask(future.result)

    def close(self) -> None:
        """Abort the open transaction; if that fails, the next publisher of this name aborts it."""
        if self._open:
            self._producer.purge()
            with contextlib.suppress(PersistorError):
                self._serve(lambda: self._producer.abort_transaction(TIMEOUT))
        self._group.close()

    def _within_timeout(self, call: Callable[[], None]) -> None:
        """Call on another thread, which is abandoned if librdkafka ignores its own timeout.

        It does if the group's coordinator was restarted (librdkafka#5456, #5511); the producer cannot be
        used then, and :meth:`begin` makes another.
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

    def _send_again(self, refused: Container[int], alone: Container[int]) -> None:
        """Abort and send again, in order, all except ``refused``."""
        # One whose message was refused purges what it is given next: another one aborts for it.
        self._producer.purge()
        self._serve(lambda: self._producer.flush(TIMEOUT))
        self._producer = configured(lambda: Producer(self._settings))
        self._initialise()
        self._open, self._failed = False, []
        self._ensure_open()
        self._produce_again(refused, alone)
        self._flush()


def _with_timeout(settings: Mapping[str, Any]) -> dict[str, Any]:
    """With a transaction's time limit that no permitted wait within it reaches."""
    try:
        needed = int(settings["delivery.timeout.ms"]) + _AROUND_DELIVERY_MS
    except ValueError:  # librdkafka refuses it with a better reason
        return dict(settings)
    return {"transaction.timeout.ms": needed, **settings}


def _is_for_now(error: KafkaError) -> bool:
    """Whether initialising has not ended yet, as where the coordinator still aborts what was open."""
    return bool(error.retriable() or error.code() == KafkaError._TIMED_OUT)  # noqa: SLF001 - a constant


def _metadata(refused: Collection[str]) -> str:
    """The metadata of the progress: which messages the transaction left out."""
    return UNNAMED if len(refused) > _MAX_DIGESTS else " ".join(map(digest, refused))


def _resolve(outcome: Future[None], call: Callable[[], None]) -> None:
    try:
        call()
        outcome.set_result(None)
    except BaseException as error:  # noqa: BLE001 - raised where the outcome is asked for
        outcome.set_exception(error)
