"""The settings of persist and index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from transforms.model import Layout
from transforms.settings import optional, pairs, part, required, setting, several
from transforms.settings.kinds import (
    AGE,
    COUNT,
    PORT,
    SIZE,
    TEXT,
    URL,
    URL_OR_NONE,
    Kind,
    positions,
    shard,
)
from transforms.settings.shared import BROKER_CLIENT, INDEX_URL, LakeSettings

__all__ = ["IndexSettings", "PersistSettings", "Streaming", "StreamingSettings"]

_METRICS_PORT = "port of the Prometheus metrics, of the first process or worker of a machine; 0 is off"


@dataclass(frozen=True, kw_only=True)
class StreamingSettings:
    """What the streaming commands share.

    Attributes:
        processes: on this machine, one shard each.
        shard: number and count of the shard that one process reads.
        shards: on other runners.
        skip: topic, partition, first and last offset of what is given up where it cannot be read.
        metrics_port: of the first process or worker of a machine; 0 is off.
    """

    command: ClassVar[str]
    metadata_config: Mapping[str, str] = pairs("index", BROKER_CLIENT)
    dead_letter: str | None = optional(
        URL,
        "failures",
        "topic for messages that can never be archived or indexed, unchanged and with the reason in "
        "headers; without it such a message stops the job",
    )
    dead_letter_config: Mapping[str, str] = pairs("failures", BROKER_CLIENT)
    skip: tuple[tuple[str, int, int, int], ...] = several(
        Kind("TOPIC/PARTITION/FIRST-LAST", positions),
        "failures",
        "offsets to give up where they cannot be read, as the log and `persistor doctor` name them: "
        "orders/3/1205-1274; what can be read is never skipped",
    )
    processes: int = setting(
        COUNT, "running", "processes on this machine, one shard of the partitions each", default="1"
    )
    shard: tuple[int, int] = setting(
        Kind("I/N", shard),
        "running",
        "which of how many shards of the partitions this command reads, where each runs as a command of "
        "its own, on one machine or many: 0/2 and 1/2",
        default="0/1",
    )
    shards: int = setting(
        COUNT,
        "running",
        "parts into which Flink and Dataflow divide the partitions; stays what it was at the job's "
        "first start",
        default="16",
    )
    metrics_host: str = setting(
        Kind("ADDRESS", str),
        "running",
        "address of the Prometheus metrics",
        default="0.0.0.0",  # noqa: S104 - scraped from other hosts
    )
    metrics_port: int = required(PORT, "running", _METRICS_PORT)


@dataclass(frozen=True, kw_only=True)
class PersistSettings(LakeSettings, StreamingSettings):
    """What ``persistor persist`` does; sizes are bytes, times are seconds.

    Attributes:
        index: None where nothing is indexed directly.
        give_up_after: None while ``on_failure`` is ``retry``.
    """

    command: ClassVar[str] = "persist"
    source: str = required(
        URL,
        "broker",
        "what to archive: kafka://HOST:9092/orders,payments or a pattern such as "
        "kafka://HOST:9092/eu.*, nats://HOST:4222/SUBJECT, pubsub://PROJECT/SUBSCRIPTION",
    )
    source_config: Mapping[str, str] = pairs("broker", BROKER_CLIENT)
    source_prefix: str = setting(
        TEXT,
        "broker",
        "put before the topic to name the source, so that clusters with the same topics can share an "
        "index, such as eu.",
        default="",
    )
    exclude: tuple[str, ...] = several(
        Kind("PATTERN", str), "broker", "topics that a pattern shall leave out, such as 'test.*'"
    )
    layout: Layout = part(Layout)
    index: str | None = optional(
        URL_OR_NONE,
        "index",
        f"write the index directly: {INDEX_URL}; none archives without an index, which rebuild can "
        "make later",
    )
    metadata: str | None = optional(
        URL,
        "index",
        "publish what was archived to this topic, for `persistor index` here or on another site",
    )
    batch_messages: int = setting(COUNT, "batches", "close a batch at so many messages", default="10000")
    batch_bytes: int = setting(SIZE, "batches", "or at so many bytes", default="64MiB")
    batch_age: float = setting(
        AGE, "batches", "or when its first message has waited so long, also on a quiet topic", default="30s"
    )
    on_failure: str = setting(
        Kind("CHOICE", str),
        "failures",
        "while the lake is away: retry leaves the messages on the broker until it is back, "
        "dead_letter gives a batch up after --give_up_after",
        default="retry",
        choices=("retry", "dead_letter"),
    )
    give_up_after: float | None = optional(
        AGE, "failures", "how long to retry before a batch goes to the dead letters"
    )
    metrics_port: int = setting(PORT, "running", _METRICS_PORT, default="2112")

    @property
    def purpose(self) -> str:
        """What the group is named by that keeps the progress at the broker."""
        return f"{self.lake}|{self.source_prefix}"


@dataclass(frozen=True, kw_only=True)
class IndexSettings(StreamingSettings):
    """What ``persistor index`` does."""

    command: ClassVar[str] = "index"
    index: str = required(URL, "index", f"the index: {INDEX_URL}")
    metadata: str = required(URL, "index", "the topic that `persistor persist --metadata` writes to")
    metrics_port: int = setting(PORT, "running", _METRICS_PORT, default="2122")

    @property
    def purpose(self) -> str:
        """As of :class:`PersistSettings`."""
        return f"index|{self.index}"


Streaming = PersistSettings | IndexSettings
"""Settings of a streaming command."""
