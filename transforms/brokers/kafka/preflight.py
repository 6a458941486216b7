"""What a Kafka topic is like as a destination."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from transforms.brokers import Destination
from transforms.brokers.kafka.client import TIMEOUT, Client, only_for_clients
from transforms.errors import TransientError
from transforms.model import Trait

__all__ = ["look_up", "retention"]

_CARRIES = ~Trait(0)
_FOREVER = 2**63 - 1
_ACLS = (
    "With ACLs a job needs WRITE and DESCRIBE on the topic, WRITE and DESCRIBE on the transactional ids "
    "persistor-*, READ on the groups persistor-resubmission-*, and DESCRIBE_CONFIGS on the topic."
)


def look_up(client: Client, settings: Mapping[str, Any], topic: str) -> Destination:
    """Ask the cluster for the topic's partitions and configuration.

    Raises:
        TransientError: the cluster does not answer.
        ConfigurationError: it refuses this user.
    """
    admin = client.hears(AdminClient(only_for_clients(settings)))
    # Naming the topic in the request could create it; the whole listing cannot.
    found = client.ask(lambda: admin.list_topics(timeout=TIMEOUT)).topics.get(topic)
    if found is None or found.error is not None:
        missing = f"Kafka topic {topic!r} does not exist (or this user may not see it): create it first."
        return Destination(topic, _CARRIES, problems=[missing])
    try:
        config = _config(client, admin, topic)
    except TransientError as error:
        unread = f"Retention and size limits are not checked, for the configuration cannot be read: {error}."
        return _destination(topic, len(found.partitions), {}, [unread, _ACLS])
    return _destination(topic, len(found.partitions), config, [])


def retention(client: Client, admin: AdminClient, topic: str) -> float | None:
    """See ``transforms.brokers.Reader.retention``."""
    config = _config(client, admin, topic)
    kept = int(config.get("retention.ms", -1))
    return kept / 1000 if "delete" in config.get("cleanup.policy", "delete") and kept >= 0 else None


def _config(client: Client, admin: AdminClient, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    future = admin.describe_configs([resource], request_timeout=TIMEOUT)[resource]
    return {name: entry.value for name, entry in client.ask(future.result).items()}


def _destination(topic: str, partitions: int, config: Mapping[str, str], warnings: list[str]) -> Destination:
    now = time.time_ns() // 1_000_000
    retention = int(config.get("retention.ms", -1))
    deletes = "delete" in config.get("cleanup.policy", "delete") and retention >= 0
    accepted = int(config.get("message.timestamp.before.max.ms", _FOREVER))
    oldest_ms = max(now - retention if deletes else -_FOREVER, now - accepted)
    original = config.get("message.timestamp.type", "CreateTime") == "CreateTime"
    if not original:
        warnings = [*warnings, "The topic sets its own times (message.timestamp.type=LogAppendTime)."]
    size = config.get("max.message.bytes")
    return Destination(
        topic,
        _CARRIES,
        partitions=partitions,
        max_bytes=int(size) if size else None,
        original_time=original,
        warnings=warnings,
        oldest_kept_us=oldest_ms * 1000 if original and oldest_ms > 0 else None,
        deduplication="exactly once for jobs: messages and progress are committed in one transaction",
        exactly_once=True,
    )
