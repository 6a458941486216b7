"""Reading from Google Pub/Sub; see :mod:`transforms.brokers.pubsub`."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from google.cloud import pubsub_v1

from transforms.brokers import NO_MARKS, Acknowledgement, Fetched, Mark, Partition, Unreadable
from transforms.brokers.pubsub.client import calling, client_options, parse_url
from transforms.brokers.pubsub.deliveries import Deliveries
from transforms.errors import ConfigurationError

__all__ = ["PubsubReader"]


class PubsubReader:
    """Reads subscriptions message by message; see :class:`transforms.brokers.Reader`."""

    positions = False
    way = ""
    reads_freely = False  # what is pulled counts as delivered

    def __init__(self, url: str, config: Mapping[str, str], exclude: Sequence[str], memory: int) -> None:
        self._project, self._names = parse_url(url)
        refused = [name for name in self._names if any(fnmatchcase(name, pattern) for pattern in exclude)]
        if refused:
            raise ConfigurationError(
                f"{name!r} is one of the job's own topics or excluded, so it cannot be a source."
                for name in refused
            )
        self._options = client_options(config)
        self._ahead = memory // len(self._names)
        self._client: pubsub_v1.SubscriberClient | None = None
        self._topics: dict[Partition, str] = {}
        self._deliveries: dict[Partition, Deliveries] = {}

    def identity(self) -> str:
        """The project; which topic a subscription reads is its incarnation."""
        return f"pubsub:{self._project}"

    def discover(self) -> Mapping[Partition, str]:
        """See :class:`transforms.brokers.Reader`; the incarnation is the topic's full name."""
        problems = list[str]()
        for name in self._names:
            try:
                with calling(f"read the subscription {name}"):
                    found = self._open().get_subscription(subscription=self._path(name))
            except ConfigurationError as error:
                problems += error.problems
            else:
                self._topics[Partition(name, None)] = found.topic
        if problems:
            raise ConfigurationError(problems)
        return dict(self._topics)

    def incarnations(self, partitions: Collection[Partition]) -> Mapping[Partition, str]:
        """As it was when the subscription was last looked up: no position can belong to another topic."""
        return {partition: self._topics[partition] for partition in partitions if partition in self._topics}

    def committed(
        self,
        partitions: Collection[Partition],  # noqa: ARG002 - as in the contract
    ) -> Mapping[Partition, tuple[int, str]]:
        """Nothing: Pub/Sub has no positions."""
        return {}

    def earliest(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """0: Pub/Sub has no positions."""
        return dict.fromkeys(partitions, 0)

    def assign(
        self,
        positions: Mapping[Partition, int],
        marks: Mapping[Partition, Mark] = NO_MARKS,  # noqa: ARG002 - as in the contract
    ) -> None:
        """See :class:`transforms.brokers.Reader`; positions mean nothing here."""
        for partition in self._deliveries.keys() - positions.keys():
            self._deliveries.pop(partition).close()
        for partition in positions.keys() - self._deliveries.keys():
            if partition not in self._topics:
                self.discover()
            topic = self._topics[partition].rpartition("/")[2]
            path = self._path(partition.topic)
            self._deliveries[partition] = Deliveries(self._open(), path, topic, self._ahead)

    def poll(self, seconds: float) -> list[Fetched]:
        """See :class:`transforms.brokers.Reader`."""
        deadline = time.monotonic() + seconds
        while True:
            fetched = self._fetch()
            left = deadline - time.monotonic()
            if fetched or left <= 0:
                return fetched
            self._wait(min(left, 0.05))

    def unreadable(self) -> Sequence[Unreadable]:
        """Subscriptions that could not be pulled; :meth:`poll` raises that too where nothing else arrives."""
        found = [(partition, deliveries.refused()) for partition, deliveries in self._deliveries.items()]
        return [
            Unreadable(partition, 0, type(error.__cause__).__name__, str(error))
            for partition, error in found
            if error is not None
        ]

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """See :class:`transforms.brokers.Reader`; uses ``receipts``."""
        for acknowledgement in acknowledgements:
            deliveries = self._deliveries.get(acknowledgement.partition)
            if deliveries is not None:
                deliveries.acknowledge(acknowledgement.receipts)

    def release(self, receipts: Sequence[Any]) -> None:
        """Have these messages delivered again at once."""
        for deliveries in self._deliveries.values():
            deliveries.release(receipts)

    def retention(self, partition: Partition) -> float | None:
        """The retention of the subscription; see :class:`transforms.brokers.Reader`."""
        with calling(f"look up the subscription {partition.topic}"):
            found = self._open().get_subscription(subscription=self._path(partition.topic))
        return float(found.message_retention_duration.total_seconds()) or None

    def examine(self, partition: Partition) -> tuple[list[str], list[str]]:  # noqa: ARG002 - as in the contract
        """No findings: only pulling would show them, and that counts as a delivery."""
        return [], []

    def lag(self) -> Mapping[Partition, int]:
        """Messages pulled but not yet returned; Pub/Sub does not report how many wait."""
        return {partition: deliveries.waiting for partition, deliveries in list(self._deliveries.items())}

    def close(self) -> None:
        """Release all unacknowledged messages; see :class:`transforms.brokers.Reader`."""
        self.assign({})
        if self._client is not None:
            self._client.close()
            self._client = None

    def _fetch(self) -> list[Fetched]:
        fetched = list[Fetched]()
        for partition, deliveries in self._deliveries.items():
            deliveries.polled()
            messages, receipts = deliveries.take(quiet=bool(fetched))
            if receipts:
                fetched.append(Fetched(partition, messages, 0, receipts))
        return fetched

    def _wait(self, seconds: float) -> None:
        for deliveries in self._deliveries.values():
            deliveries.wait(seconds)
            return
        time.sleep(seconds)

    def _path(self, subscription: str) -> str:
        return f"projects/{self._project}/subscriptions/{subscription}"

    def _open(self) -> pubsub_v1.SubscriberClient:
        if self._client is None:
            self._client = pubsub_v1.SubscriberClient(**self._options)
        return self._client
