"""Messages that are published while something else happens."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from confluent_kafka import Producer

from tests.servers.kafka import Kafka

__all__ = ["Load", "load_message"]


class Load:
    """Numbered messages for some topics, ``rate`` a second for each, until it is told to stop.

    Args:
        topics: the topics with their numbers of partitions.
        transactions: publish in transactions, every fifth of which is aborted.
    """

    def __init__(
        self, kafka: Kafka, topics: Mapping[str, int], *, rate: int = 1000, transactions: bool = False
    ) -> None:
        self.acknowledged: dict[str, set[tuple[int, int]]] = {topic: set() for topic in topics}
        self._topics = topics
        self._rate = rate
        self._kafka = kafka
        self._transactions = transactions
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self._failure: BaseException | None = None

    def check(self) -> None:
        """Fail where nothing is sent any more."""
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(120)
        if error is None:
            self.check()

    def _run(self) -> None:
        try:
            self._produce()
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            self._failure = error

    def _produce(self) -> None:
        producer = Producer(self._config())
        if self._transactions:
            producer.init_transactions(60)
        numbers = itertools.count()
        for turn in itertools.count():
            if self._stop.wait(0.05):
                break
            with_transaction = _aborting if turn % 5 == 4 else _committing
            send = with_transaction if self._transactions else _plainly
            send(producer, lambda: self._turn(producer, numbers))
        assert producer.flush(60) == 0, "the broker did not acknowledge what was sent"

    def _turn(self, producer: Producer, numbers: Iterator[int]) -> None:
        for number in itertools.islice(numbers, self._rate // 20):
            for topic, partitions in self._topics.items():
                sent = load_message(number)
                producer.produce(topic, partition=number % partitions, on_delivery=self._delivered, **sent)
        producer.poll(0)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is None:
            self.acknowledged[message.topic()].add((message.partition(), message.offset()))

    def _config(self) -> dict[str, Any]:
        own = {"transactional.id": f"load-{id(self)}", "transaction.timeout.ms": 60_000}
        return {
            "bootstrap.servers": self._kafka.bootstrap,
            "enable.idempotence": True,
            "log_level": 0,
            "message.timeout.ms": 60_000 if self._transactions else 120_000,
            "queue.buffering.max.messages": 500_000,
            "reconnect.backoff.max.ms": 500,
            **(own if self._transactions else {}),
        }


def _plainly(producer: Producer, publish: Callable[[], None]) -> None:
    del producer
    publish()


def _committing(producer: Producer, publish: Callable[[], None]) -> None:
    producer.begin_transaction()
    publish()
    producer.commit_transaction(60)


def _aborting(producer: Producer, publish: Callable[[], None]) -> None:
    producer.begin_transaction()
    publish()
    producer.flush(60)
    producer.abort_transaction(60)


def load_message(number: int) -> dict[str, Any]:
    """What the load sends: a key of a few, a number, and headers of which one chooses the path."""
    return {
        "key": b"key-%d" % (number % 7),
        "value": b'{"number": %d, "text": "%s"}' % (number, b"x" * (number % 150)),
        "headers": [("path", b"p%d" % (number % 5)), ("n", b"%d" % number), ("n", b"again")],
    }
