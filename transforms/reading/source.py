"""What a job reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from transforms.model import Layout
from transforms.reading.buffers import Limits

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """What is read, and how it is cut into batches. Picklable; secrets are references.

    Attributes:
        url: the broker's URL with its topics or patterns.
        prefix: goes before each topic to make the source's name.
        lake: where claims are kept; None reads without claims, from the broker's own position.
        give_up_after: seconds without the lake after which messages go to the dead letters; None is never.
        memory: bytes of open batches in one process, above which the largest is closed early.
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
    memory: int = 256 * 2**20
    purpose: str = "persist"

    @property
    def group(self) -> str:
        """Names the progress kept at the broker: the same for every job with this purpose."""
        return f"persistor-{hashlib.sha256(self.purpose.encode()).hexdigest()[:16]}"

    def name_of(self, topic: str) -> str:
        """The source's name; ``~`` stands for incarnations only."""
        return (self.prefix + topic).replace("%", "%25").replace("~", "%7E")
