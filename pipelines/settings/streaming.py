"""The settings of persist and index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from transforms.model import Layout
from transforms.settings import flag, optional, pairs, part, required, setting, several
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

_METRICS_PORT = "port of the Prometheus metrics of the first process or worker on a machine; 0 disables them"


@dataclass(frozen=True, kw_only=True)
class StreamingSettings:
    """Settings shared by the streaming commands.

    Attributes:
        processes: number of processes on this machine, one shard each.
        shard: number and count of the shard that one process reads.
        shards: on other runners.
        memory: bytes, for the messages of one process.
        skip: topic, partition, first and last offset of ranges to skip if they cannot be read.
        metrics_port: of the first process or worker on a machine; 0 disables metrics.
    """

    command: ClassVar[str]
    metadata_config: Mapping[str, str] = pairs("index", BROKER_CLIENT)
    dead_letter: str | None = optional(
        URL,
        "failures",
        "topic for messages that can never be archived or indexed; they are sent unchanged, with the "
        "reason in headers. Without it, such a message stops the job",
    )
    dead_letter_config: Mapping[str, str] = pairs("failures", BROKER_CLIENT)
    skip: tuple[tuple[str, int, int, int], ...] = several(
        Kind("TOPIC/PARTITION/FIRST-LAST", positions),
        "failures",
        "offsets to skip if they cannot be read, as printed in the log and by `persistor doctor`: "
        "orders/3/1205-1274. Readable messages are never skipped",
    )
    processes: int = setting(
        COUNT,
        "running",
        "number of processes on this machine; each reads one shard of the partitions",
        default="1",
    )
    shard: tuple[int, int] = setting(
        Kind("I/N", shard),
        "running",
        "shard of the partitions that this command reads, if each shard runs as its own command, on one "
        "or more machines: 0/2 and 1/2",
        default="0/1",
    )
    shards: int = setting(
        COUNT,
        "running",
        "shards into which Flink and Dataflow divide the partitions; fixed at the job's first start",
        default="16",
    )
    memory: int = setting(
        SIZE,
        "running",
        "memory of a process for messages that are read and not yet stored, whatever waits at the broker; "
        "libraries take 200 to 400 MiB more",
        default="512MiB",
    )
    metrics_host: str = setting(
        Kind("ADDRESS", str),
        "running",
        "address that serves the Prometheus metrics",
        default="0.0.0.0",  # noqa: S104 - scraped from other hosts
    )
    metrics_port: int = required(PORT, "running", _METRICS_PORT)


@dataclass(frozen=True, kw_only=True)
class PersistSettings(LakeSettings, StreamingSettings):
    """Settings of ``persistor persist``; sizes are bytes, times are seconds.

    Attributes:
        index: None if nothing is indexed directly.
        give_up_after: None if ``on_failure`` is ``retry``.
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
        "prefix of the topic in the source's name, so that clusters with equal topics can share an "
        "index, such as eu.",
        default="",
    )
    exclude: tuple[str, ...] = several(
        Kind("PATTERN", str), "broker", "topics to exclude from a pattern, such as 'test.*'"
    )
    skip_replayed: bool = flag(
        "broker",
        "leave messages out of the archive that a resubmission with --mark has sent (they have the header "
        "persistor-replay); they are counted",
    )
    layout: Layout = part(Layout)
    index: str | None = optional(
        URL_OR_NONE,
        "index",
        f"index to write to: {INDEX_URL}; none archives without an index, and `persistor rebuild` can "
        "create it later",
    )
    metadata: str | None = optional(
        URL,
        "index",
        "topic for the metadata of archived messages, read by `persistor index`, here or at another site",
    )
    batch_messages: int = setting(COUNT, "batches", "maximum messages of a batch", default="10000")
    batch_bytes: int = setting(
        SIZE, "batches", "maximum bytes of a batch, an eighth of --memory at most", default="64MiB"
    )
    batch_age: float = setting(
        AGE, "batches", "maximum age of a batch's first message, also on a quiet topic", default="30s"
    )
    on_failure: str = setting(
        Kind("CHOICE", str),
        "failures",
        "while the lake does not answer: retry leaves messages on the broker until it is back, "
        "dead_letter turns a batch into dead letters after --give_up_after",
        default="retry",
        choices=("retry", "dead_letter"),
    )
    give_up_after: float | None = optional(
        AGE, "failures", "how long to retry before a batch becomes dead letters"
    )
    metrics_port: int = setting(PORT, "running", _METRICS_PORT, default="2112")

    @property
    def purpose(self) -> str:
        """Identifies the consumer group with the progress at the broker."""
        return f"{self.lake}|{self.source_prefix}"


@dataclass(frozen=True, kw_only=True)
class IndexSettings(StreamingSettings):
    """Settings of ``persistor index``."""

    command: ClassVar[str] = "index"
    index: str = required(URL, "index", f"the index: {INDEX_URL}")
    metadata: str = required(URL, "index", "the topic that `persistor persist --metadata` writes to")
    metrics_port: int = setting(PORT, "running", _METRICS_PORT, default="2122")

    @property
    def purpose(self) -> str:
        """See :class:`PersistSettings`."""
        return f"index|{self.index}"


Streaming = PersistSettings | IndexSettings
"""Settings of a streaming command."""
