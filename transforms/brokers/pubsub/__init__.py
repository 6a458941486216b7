"""Google Pub/Sub: read subscriptions with acknowledgement by message, publish with ordering keys.

URL: ``pubsub://PROJECT/SUBSCRIPTION[,…]`` as a source, ``pubsub://PROJECT/TOPIC`` as a destination.
Settings: see ``client.SETTINGS``. ``PUBSUB_EMULATOR_HOST`` is honoured by Google's library.

A message's attributes are its headers, sorted by name; the ordering key is its key, null where empty;
its id is Pub/Sub's message id, and there is no offset. The partition is the subscription, its
incarnation the topic that it is subscribed to; the identity is the project.

Delivery: at least once. Messages stay unacknowledged until ``acknowledge``; their deadline is extended
while the reader is polled. A reader that is not polled for 60 s releases everything. If a subscription
with exactly-once delivery refuses ids because their deadline has passed, the messages are delivered
again.

**Not carried** when publishing: key that is not UTF-8, empty key, null data, and headers that repeat,
are null or are not UTF-8. The publish time is always the service's own.

**Not testable with the emulator**, so based on Google's documentation only: order
within a key (it has none, or with ordering enabled gives one message of a key at a time; the service
holds back a key's next messages until those pulled before are acknowledged), exactly-once subscriptions,
credentials and permissions, quotas and throttling, regional endpoints, the service's size limits and
refusals of attributes (checked here before sending), retention, Seek and snapshots, the service's own
dead-letter topics, and the survival of anything when it restarts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transforms.brokers import AHEAD, Publisher, Reader
from transforms.brokers.pubsub.publisher import PubsubPublisher
from transforms.brokers.pubsub.reader import PubsubReader

__all__ = ["open_publisher", "open_reader"]


def open_reader(
    url: str,
    config: Mapping[str, str],
    *,
    shard: tuple[int, int] = (0, 1),  # noqa: ARG001 - Pub/Sub itself divides messages among readers
    group: str,  # noqa: ARG001 - the subscription is the group
    exclude: Sequence[str] = (),
    memory: int = AHEAD,
) -> Reader:
    """See :mod:`transforms.brokers`. Every shard reads every subscription."""
    return PubsubReader(url, config, exclude, memory)


def open_publisher(
    url: str,
    config: Mapping[str, str],
    *,
    name: str | None = None,  # noqa: ARG001 - Pub/Sub has no names of publishers
) -> Publisher:
    """See :mod:`transforms.brokers`. Nothing fences an older publisher of the same name."""
    return PubsubPublisher(url, config)
