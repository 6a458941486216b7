"""Publishes a bundle's messages to a topic, confirmed before the bundle ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import pyarrow as pa

from transforms import metrics, registry, stop
from transforms.brokers import Publisher, PublishOptions, Undelivered
from transforms.errors import PermanentError, TransientError
from transforms.retry import retry

__all__ = ["Outbox"]

_T = TypeVar("_T")
_OPTIONS = PublishOptions(original_time=False, partitions="key")


class Outbox:
    """Publishes to one topic with the current time. Used by one thread.

    Delivery: at least once; sent messages are kept until confirmed, and sent again if the broker did not
    answer.
    """

    def __init__(self, name: str, url: str, config: Mapping[str, str]) -> None:
        """Connect to ``url``, called the ``name`` topic in messages; raises like ``open_publisher``."""
        self._name = name
        self._publisher: Publisher = registry.broker(url).open_publisher(url, config)
        self._what = f"publish to {url.rpartition('/')[2]}"
        self._retries = metrics.RETRIES.labels(f"{name} topic")
        self._waiting: list[pa.Table] = []
        self._lost = False
        self.max_bytes: int | None = None

    def look_up(self) -> None:
        """Look up the topic's size limit."""
        self.max_bytes = self._retry(self._publisher.destination).max_bytes

    def send(self, messages: pa.Table) -> None:
        """Send rows (``MESSAGE_SCHEMA``)."""
        self._waiting.append(messages)
        if self._lost:
            return
        try:
            self._publisher.send(messages, _OPTIONS)
        except TransientError:
            # A publisher that loses its connection forgets what it sent, and then has nothing to confirm.
            self._lost = True
            self._retries.inc()  # confirm() sends all of it again

    def confirm(self) -> None:
        """Wait until all is confirmed.

        Raises:
            PermanentError: the broker refuses some messages permanently.
        """
        if not self._waiting:
            return
        if not self._lost:
            try:
                undelivered = self._publisher.commit(0)
            except TransientError:
                self._lost = True
        if self._lost:
            undelivered = self._retry(self._send_again)
        self.forget()
        if undelivered:
            raise PermanentError(
                f"the {self._name} topic refused {len(undelivered)} messages: {undelivered[0].reason}"
            )

    def forget(self) -> None:
        """Drop unconfirmed messages, such as those of a failed bundle."""
        self._waiting, self._lost = [], False

    def close(self) -> None:
        """Disconnect."""
        self._publisher.close()

    def _send_again(self) -> list[Undelivered]:
        for messages in self._waiting:
            self._publisher.send(messages, _OPTIONS)
        return self._publisher.commit(0)

    def _retry(self, call: Callable[[], _T]) -> _T:
        return retry(call, self._what, on_retry=self._retries.inc, stopped=stop.stopping)
