"""Opens a publisher for one Kafka topic: in transactions (with a name) or idempotent (without)."""

from __future__ import annotations

from collections.abc import Mapping

from transforms.brokers import Publisher
from transforms.brokers.kafka.client import client_config, split_url
from transforms.brokers.kafka.idempotent import DEFAULTS, OURS, KafkaPublisher
from transforms.brokers.kafka.transactional import TransactionalKafkaPublisher
from transforms.errors import ConfigurationError
from transforms.secrets import resolve

__all__ = ["open_publisher"]


def open_publisher(url: str, config: Mapping[str, str], *, name: str | None = None) -> Publisher:
    """Open ``kafka://HOST:PORT[,…]/TOPIC``.

    Raises:
        ConfigurationError: not exactly one topic, or a property that is unknown to librdkafka or set by
            Persistor itself.
    """
    servers, topics = split_url(resolve(url, "kafka://…"))
    if len(topics) != 1:
        raise ConfigurationError(f"{url!r}: a destination is exactly one topic.")
    settings = client_config(servers, config, DEFAULTS, OURS)
    if name is None:
        return KafkaPublisher(settings, topics[0])
    return TransactionalKafkaPublisher(settings, topics[0], name)
