"""Committing offsets to a group: a hint for tools that show lag, which nothing waits for."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from transforms import metrics

__all__ = ["Commits"]

_log = logging.getLogger(__name__)
_RETRY_AFTER = 5.0
_COORDINATOR = "group coordinator"


class Commits:
    """The commits of one consumer: one request at a time, with the newest offset of each partition."""

    def __init__(self) -> None:
        """Nothing is to be committed yet."""
        self._waiting: dict[tuple[str, int], TopicPartition] = {}
        self._under_way: list[TopicPartition] = []
        self._not_before = 0.0
        self._failing_since: float | None = None

    @property
    def settled(self) -> bool:
        """Whether no answer is awaited, and nothing waits that was not refused before."""
        return not self._under_way and (not self._waiting or self._failing_since is not None)

    def add(self, offsets: Iterable[TopicPartition]) -> None:
        """Have these committed by and by."""
        self._waiting.update({(one.topic, one.partition): one for one in offsets})

    def send(self, consumer: Consumer) -> None:
        """Send what waits, unless an answer is awaited or the last one was an error a moment ago."""
        if self._under_way or not self._waiting or time.monotonic() < self._not_before:
            return
        self._under_way, self._waiting = list(self._waiting.values()), {}
        try:
            consumer.commit(offsets=self._under_way, asynchronous=True)
        except KafkaException as exception:
            self.answered(exception.args[0], ())

    def answered(self, error: KafkaError | None, offsets: Sequence[TopicPartition]) -> None:
        """The client's ``on_commit``, called while it is polled."""
        sent, self._under_way = self._under_way, []
        error = error or next((one.error for one in offsets if one.error is not None), None)
        if error is None:
            self._succeeded()
            return
        self._waiting = {(one.topic, one.partition): one for one in sent} | self._waiting
        self._not_before = time.monotonic() + _RETRY_AFTER
        metrics.RETRIES.labels(_COORDINATOR).inc()
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            _log.warning("cannot commit offsets, trying again while archiving goes on: %s", error.str())

    def _succeeded(self) -> None:
        if self._failing_since is not None:
            stood = time.monotonic() - self._failing_since
            _log.warning("could commit offsets after %.0f s", stood)
            self._failing_since = None
