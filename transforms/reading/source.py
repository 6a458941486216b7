"""The source of a job and how it is cut into batches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from transforms.brokers import Partition
from transforms.memory import BOUND, Bound
from transforms.model import Layout
from transforms.reading.buffers import Limits
from transforms.reading.sinks import Sinks

__all__ = ["Skip", "Source"]

Skip = tuple[str, int, int, int]
"""Topic, partition, first and last position."""


@dataclass(frozen=True)
class Source:
    """A source, and how it is cut into batches. Picklable; secrets are references.

    Attributes:
        url: the broker's URL with its topics or patterns.
        prefix: goes before each topic to make the source's name.
        lake: stores claims; None reads without claims, from the broker's own position.
        give_up_after: seconds without the lake after which messages become dead letters; None means never.
        skip: ranges that are given up where they cannot be read.
        bound: of the memory of a process for messages.
    """

    url: str
    config: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    exclude: tuple[str, ...] = ()
    lake: str | None = None
    lake_config: Mapping[str, str] = field(default_factory=dict)
    layout: Layout = Layout()
    limits: Limits = Limits()
    give_up_after: float | None = None
    skip: tuple[Skip, ...] = ()
    bound: Bound = BOUND
    purpose: str = "persist"
    sinks: Sinks = field(default_factory=Sinks)

    @property
    def group(self) -> str:
        """The name of the progress at the broker, the same for every job with this purpose."""
        return f"persistor-{hashlib.sha256(self.purpose.encode()).hexdigest()[:16]}"

    def skipped(self, partition: Partition, position: int) -> int | None:
        """The last position to be given up where a partition cannot be read; None where it waits."""
        for topic, number, first, last in self.skip:
            if (topic, number) == (partition.topic, partition.number) and first <= position <= last:
                return last
        return None

    def name_of(self, topic: str) -> str:
        """The source's name; ``~`` stands for incarnations only."""
        return (self.prefix + topic).replace("%", "%25").replace("~", "%7E")
