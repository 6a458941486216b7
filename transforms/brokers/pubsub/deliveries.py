"""The deliveries of one subscription: pulled ahead, kept alive, acknowledged or released."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
from google.api_core import exceptions
from google.api_core.retry import Retry
from google.cloud import pubsub_v1
from google.pubsub_v1.types import PullResponse

from transforms.brokers.pubsub.client import calling
from transforms.errors import PersistorError
from transforms.model import MESSAGE_SCHEMA

__all__ = ["Deliveries"]

_log = logging.getLogger(__name__)

_PULLS = 2
_PULL_SECONDS = 20.0
_FIRST_PULL, _MOST_PULLED = 10, 1000
"""Messages of a pull; fewer of large ones."""
_AHEAD = 10_000
"""Pulled but not taken messages at which pulling stops."""
_LEASE = 60
_RENEW = 20.0
_TICK = 3.0
"""Less than the shortest deadline of a subscription, which is 10 s."""
_UNUSED = 60.0
_PAUSE = 1.0
_IDS = 1000
"""Acknowledgement ids per request; the service accepts 512 KiB."""
_RETRY = Retry(timeout=30.0)


class Deliveries:
    """Pulls in its own threads and extends deadlines while it is polled.

    Pulling stops while ``ahead`` bytes wait to be taken.

    Attributes:
        waiting: messages pulled but not taken.
    """

    def __init__(self, client: pubsub_v1.SubscriberClient, path: str, topic: str, ahead: int) -> None:
        self.waiting = 0
        self._client = client
        self._path = path
        self._topic = topic
        self._ahead = ahead
        self._pulled_at_once = _FIRST_PULL
        self._changed = threading.Condition()
        self._arrived: list[Any] = []
        self._bytes = 0
        self._leases: dict[str, float] = {}
        self._failure: PersistorError | None = None
        self._refused: PersistorError | None = None
        self._polled_at = time.monotonic()
        self._closed = False
        for target in [self._pull_on] * _PULLS + [self._renew_on]:
            threading.Thread(target=target, name="pubsub", daemon=True).start()

    def polled(self) -> None:
        """Record that the reader is alive."""
        with self._changed:
            self._polled_at = time.monotonic()
            self._changed.notify_all()

    def take(self, *, quiet: bool) -> tuple[pa.Table, Sequence[str]]:
        """Messages as a table, with one receipt each.

        Raises:
            PersistorError: pulling failed and nothing has arrived; not while ``quiet``.
        """
        with self._changed:
            arrived, self._arrived = self._arrived, []
            self.waiting = self._bytes = 0
            failure = self._failure
            self._changed.notify_all()
        if failure and not arrived and not quiet:
            raise failure
        return _table(arrived, self._topic), [received.ack_id for received in arrived]

    def refused(self) -> PersistorError | None:
        """The last failure of pulling since the last call, unless a pull has succeeded since."""
        with self._changed:
            refused, self._refused = self._refused, None
        return refused

    def wait(self, seconds: float) -> None:
        """Wait until something arrives, or until the timeout."""
        with self._changed:
            if not self._arrived:
                self._changed.wait(seconds)

    def acknowledge(self, receipts: Iterable[str]) -> None:
        """Acknowledge receipts. Raises ``TransientError`` on failure; it can be repeated."""
        receipts = list(receipts)
        for ids in _portions(receipts):
            with calling(f"acknowledge messages of {self._path}"):
                self._acknowledge(ids)
        self._drop(receipts)

    def release(self, receipts: Iterable[str]) -> None:
        """Have our receipts among these delivered again at once."""
        ours = self._drop(receipts)
        # If that fails, they are delivered again after their deadline.
        with contextlib.suppress(PersistorError):
            self._set_deadline(ours, 0)

    def close(self) -> None:
        """Stop, and release all unacknowledged messages."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._release_all()

    def _acknowledge(self, ids: list[str]) -> None:
        try:
            self._client.acknowledge(subscription=self._path, ack_ids=ids, retry=_RETRY)
        except (exceptions.InvalidArgument, exceptions.FailedPrecondition) as error:
            # A subscription with exactly-once delivery refuses expired ids this way.
            _log.warning("messages of %s will be delivered again: %s", self._path, type(error).__name__)

    def _release_all(self) -> None:
        with self._changed:
            self._arrived = []
            self.waiting = self._bytes = 0
            held = list(self._leases)
        self.release(held)

    def _drop(self, receipts: Iterable[str]) -> list[str]:
        with self._changed:
            return [receipt for receipt in receipts if self._leases.pop(receipt, None) is not None]

    def _set_deadline(self, receipts: Sequence[str], seconds: int) -> None:
        for ids in _portions(receipts):
            with calling(f"extend deadlines of {self._path}"):
                self._client.modify_ack_deadline(
                    subscription=self._path, ack_ids=ids, ack_deadline_seconds=seconds, retry=_RETRY
                )

    def _pull_on(self) -> None:
        while self._may_pull():
            try:
                with calling(f"pull from {self._path}"):
                    received = self._pull()
            except PersistorError as error:
                with self._changed:
                    self._failure = self._refused = error
                    self._changed.notify_all()
                    self._changed.wait(_PAUSE)
            else:
                self._keep(received)

    def _may_pull(self) -> bool:
        """Wait until more may be pulled; False once this is closed."""
        with self._changed:
            while not self._closed and (
                self._is_unused() or self.waiting >= _AHEAD or self._bytes >= self._ahead
            ):
                self._changed.wait(_PAUSE)
            return not self._closed

    def _pull(self) -> list[Any]:
        try:
            response = self._client.pull(
                subscription=self._path,
                max_messages=self._pulled_at_once,
                retry=None,
                timeout=_PULL_SECONDS,
            )
        except exceptions.DeadlineExceeded:
            return []
        # Use the plain protobuf message: proto-plus would wrap each part of each message.
        return list(PullResponse.pb(response).received_messages)

    def _keep(self, received: list[Any]) -> None:
        bytes = sum(message.message.ByteSize() for message in received)
        with self._changed:
            if bytes:
                fitting = self._ahead * len(received) // (2 * _PULLS * bytes)
                self._pulled_at_once = min(_MOST_PULLED, fitting + 1)
            self._failure = self._refused = None
            late = self._closed
            self._leases.update((message.ack_id, 0.0) for message in received)
            if not late:
                self._arrived += received
                self.waiting += len(received)
                self._bytes += bytes
                self._changed.notify_all()
        if late:
            self.release([message.ack_id for message in received])

    def _is_unused(self) -> bool:
        return time.monotonic() - self._polled_at > _UNUSED

    def _renew_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed, _TICK)
                if self._closed:
                    return
                unused = self._is_unused()
            if unused:
                self._release_all()
            else:
                self._renew()

    def _renew(self) -> None:
        now = time.monotonic()
        with self._changed:
            due = [receipt for receipt, renewed in self._leases.items() if now - renewed > _RENEW]
        try:
            self._set_deadline(due, _LEASE)
        except PersistorError as error:
            # Not a failure of the reader: it is tried again, and expired messages are delivered again.
            _log.warning("%s", error)
            return
        with self._changed:
            self._leases.update((receipt, now) for receipt in due if receipt in self._leases)


def _portions(ids: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while portion := list(islice(rest, _IDS)):
        yield portion


def _table(received: Sequence[Any], topic: str) -> pa.Table:
    count, messages = len(received), [one.message for one in received]
    times = [m.publish_time.seconds * 1_000_000 + m.publish_time.nanos // 1000 for m in messages]
    columns = [
        [m.message_id for m in messages],
        [topic] * count,
        [None] * count,
        [None] * count,
        times,
        [m.ordering_key.encode() or None for m in messages],
        [m.data for m in messages],
        [[(name, value.encode()) for name, value in sorted(m.attributes.items())] for m in messages],
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, MESSAGE_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=MESSAGE_SCHEMA)
