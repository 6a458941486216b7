"""Kafka: read by position with librdkafka, publish with idempotence or in transactions.

Delivery: a reader never commits by itself and never joins a rebalance (``assign``, not
``subscribe``). A publisher with a name works in transactions that commit its progress together
with the messages; one without a name is idempotent: no repeats unless its process dies.

Settings (``source_config`` and so on) are librdkafka's own properties.
"""

from transforms.brokers.kafka.publisher import open_publisher
from transforms.brokers.kafka.reader import open_reader

__all__ = ["open_publisher", "open_reader"]
