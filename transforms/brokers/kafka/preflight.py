"""Checks a Kafka topic as a destination or a source."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from confluent_kafka import TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient, ConfigResource, ResourceType

from transforms.brokers import Destination
from transforms.brokers.kafka.client import TIMEOUT, Client, only_for_clients
from transforms.errors import ConfigurationError, PersistorError
from transforms.model import Trait

__all__ = ["ACLS", "examine_source", "largest_batch", "look_up", "retention"]

_CARRIES = ~Trait(0)
_FOREVER = 2**63 - 1
ACLS = (
    "With ACLs a job needs READ, WRITE, DESCRIBE and DESCRIBE_CONFIGS on the topic; WRITE and DESCRIBE "
    "on the transactional ids persistor-*; READ and DELETE on the groups persistor-resubmission-*."
)
"""Rights that a user needs for a job; progress is committed as an offset, which needs READ."""


def look_up(client: Client, settings: Mapping[str, Any], topic: str) -> Destination:
    """Look up the topic's partitions and configuration.

    Raises:
        TransientError: the cluster does not answer.
        ConfigurationError: it refuses this user.
    """
    admin = client.hears(AdminClient(only_for_clients(settings)))
    # A request that names the topic could create it; listing all topics cannot.
    cluster = client.ask(lambda: admin.list_topics(timeout=TIMEOUT))
    found = cluster.topics.get(topic)
    if found is None or found.error is not None:
        missing = f"Kafka topic {topic!r} does not exist (or this user may not see it): create it first."
        return Destination(topic, _CARRIES, problems=[missing], for_jobs=[ACLS])
    config, warnings, for_jobs = dict[str, str](), list[str](), list[str]()
    try:
        config = _config(client, admin, topic)
    except PersistorError as error:
        warnings.append(f"Retention and size limits of {topic} are not checked: {error}")
        for_jobs.append(ACLS)
    described = _described(client, admin, topic)
    refused = _denied(described)
    if AclOperation.READ in refused:
        for_jobs = [f"This user may not read the Kafka topic {topic!r}, which jobs need.", ACLS]
    made = replace(
        _destination(topic, len(found.partitions), config, warnings),
        for_jobs=for_jobs,
        identity=str(cluster.cluster_id),
        incarnation=str(described.topic_id),
    )
    if AclOperation.WRITE in refused:
        return replace(made, problems=[f"This user may not write to the Kafka topic {topic!r}. {ACLS}"])
    return made


def _described(client: Client, admin: AdminClient, topic: str) -> Any:
    [future] = admin.describe_topics(
        TopicCollection([topic]), include_authorized_operations=True, request_timeout=TIMEOUT
    ).values()
    return client.ask(future.result)


def _denied(described: Any) -> set[AclOperation]:
    """Which of reading and writing is denied to this user."""
    allowed = described.authorized_operations
    # An old broker does not report it.
    return set() if allowed is None else {AclOperation.READ, AclOperation.WRITE} - set(allowed)


def examine_source(client: Client, admin: AdminClient, topic: str) -> tuple[list[str], list[str]]:
    """See ``transforms.brokers.Reader.examine``."""
    refused = AclOperation.READ in _denied(_described(client, admin, topic))
    problems = [f"This user may not read the Kafka topic {topic!r}."] if refused else []
    try:
        compacted = _is_compacted(_config(client, admin, topic))
    except ConfigurationError:  # retention() reports it too
        compacted = False
    compacts = f"{topic} is compacted: a message replaced by a later one before it is read is lost."
    return problems, [compacts] if compacted else []


def _is_compacted(config: Mapping[str, str]) -> bool:
    return "compact" in config.get("cleanup.policy", "")


def retention(client: Client, admin: AdminClient, topic: str) -> float | None:
    """See ``transforms.brokers.Reader.retention``."""
    config = _config(client, admin, topic)
    kept = int(config.get("retention.ms", -1))
    return kept / 1000 if "delete" in config.get("cleanup.policy", "delete") and kept >= 0 else None


def largest_batch(client: Client, settings: Mapping[str, Any], topic: str) -> int | None:
    """Bytes of the largest batch that the topic accepts; None if the broker does not report it.

    Raises:
        TransientError: the cluster does not answer, or the topic does not exist.
        ConfigurationError: it refuses this user.
    """
    admin = client.hears(AdminClient(only_for_clients(settings)))
    size = _config(client, admin, topic).get("max.message.bytes")
    return int(size) if size else None


def _config(client: Client, admin: AdminClient, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    future = admin.describe_configs([resource], request_timeout=TIMEOUT)[resource]
    return {name: entry.value for name, entry in client.ask(future.result).items()}


def _destination(topic: str, partitions: int, config: Mapping[str, str], warnings: list[str]) -> Destination:
    now = time.time_ns() // 1_000_000
    retention = int(config.get("retention.ms", -1))
    deletes = "delete" in config.get("cleanup.policy", "delete")
    kept = int(config.get("retention.bytes", -1))
    accepted = int(config.get("message.timestamp.before.max.ms", _FOREVER))
    ahead = int(config.get("message.timestamp.after.max.ms", _FOREVER))
    oldest_ms = max(now - retention if deletes and retention >= 0 else -_FOREVER, now - accepted)
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
        # Of milliseconds librdkafka takes 0 for "now", and Kafka -1 for "no time".
        lost_times_us=(-1000, 1000),
        compacted=_is_compacted(config),
        warnings=warnings,
        newest_taken_us=(now + ahead) * 1000 if original and ahead < _FOREVER else None,
        oldest_kept_us=oldest_ms * 1000 if original and oldest_ms > 0 else None,
        deduplication="exactly once for jobs: messages and progress are committed in one transaction",
        exactly_once=True,
        keeps_bytes=kept * partitions if deletes and kept >= 0 else None,
    )
