"""What each command is told to do: typed, validated, picklable. Secrets are unresolved references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:  # it loads Arrow, and --help answers at once
    from transforms.model import Layout

__all__ = [
    "ApiSettings",
    "Destination",
    "ExpireSettings",
    "IndexSettings",
    "JobsSettings",
    "PersistSettings",
    "PlanSettings",
    "RebuildSettings",
    "ResubmitSettings",
    "StreamingSettings",
    "TokenSettings",
]


@dataclass(frozen=True)
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
    metadata_config: Mapping[str, str]
    dead_letter: str | None
    dead_letter_config: Mapping[str, str]
    processes: int
    shard: tuple[int, int]
    shards: int
    skip: tuple[tuple[str, int, int, int], ...]
    metrics_host: str
    metrics_port: int


@dataclass(frozen=True)
class PersistSettings(StreamingSettings):
    """What ``persistor persist`` does; sizes are bytes, times are seconds.

    Attributes:
        index: None where nothing is indexed directly.
        give_up_after: None while ``on_failure`` is ``retry``.
    """

    command: ClassVar[str] = "persist"
    source: str
    source_config: Mapping[str, str]
    source_prefix: str
    exclude: tuple[str, ...]
    lake: str
    lake_config: Mapping[str, str]
    layout: Layout
    index: str | None
    metadata: str | None
    batch_messages: int
    batch_bytes: int
    batch_age: float
    on_failure: str
    give_up_after: float | None

    @property
    def purpose(self) -> str:
        """What the group is named by that keeps the progress at the broker."""
        return f"{self.lake}|{self.source_prefix}"


@dataclass(frozen=True)
class IndexSettings(StreamingSettings):
    """What ``persistor index`` does."""

    command: ClassVar[str] = "index"
    metadata: str
    index: str

    @property
    def purpose(self) -> str:
        """As of :class:`PersistSettings`."""
        return f"index|{self.index}"


@dataclass(frozen=True)
class PlanSettings:
    """What ``persistor plan`` plans.

    Attributes:
        selection: the JSON of a ``transforms.selection.Selection``.
        timestamp: ``original`` or ``now``.
        partitions: ``original``, ``key``, or None to decide by the topics.
        order: ``partition``, ``key`` or ``none``.
        restore: whether dead letters are sent as they were.
        source_prefix: what ``{origin}`` leaves out of a source's name.
    """

    command: ClassVar[str] = "plan"
    destination: str | None
    destination_config: Mapping[str, str]
    lakes: tuple[str, ...]
    lake_config: Mapping[str, str]
    index: str
    selection: str | None
    timestamp: str
    partitions: str | None
    lossy: bool
    json: bool
    order: str = "partition"
    restore: bool = False
    source_prefix: str = ""


@dataclass(frozen=True)
class ResubmitSettings(PlanSettings):
    """What ``persistor resubmit`` does.

    Attributes:
        plan: id of the plan to run; then destination, selection and options are None or the default.
        resume: id of the job to go on with; likewise.
        messages_per_second: at most; None is as fast as it can.
        bytes_per_second: likewise.
        follow: stay with a job that is paused until it is resumed or ended.
    """

    command: ClassVar[str] = "resubmit"
    plan: str | None = None
    resume: str | None = None
    messages_per_second: int | None = None
    bytes_per_second: int | None = None
    follow: bool = False


@dataclass(frozen=True)
class JobsSettings:
    """What ``persistor jobs`` lists, shows or does.

    Attributes:
        job: id of the one that is looked at; None lists them.
        action: ``pause``, ``resume``, ``cancel``, ``retry`` or ``rate``; None only looks.
        states: those that a list shows; all but ``PLANNED`` where it is empty.
        limit: jobs of a list.
        follow: watch the job until it ends.
        messages_per_second: of the action ``rate``; None is unlimited.
        bytes_per_second: likewise.
    """

    command: ClassVar[str] = "jobs"
    index: str
    job: str | None
    action: str | None
    states: tuple[str, ...]
    limit: int
    follow: bool
    messages_per_second: int | None
    bytes_per_second: int | None
    json: bool


@dataclass(frozen=True)
class RebuildSettings:
    """What ``persistor rebuild`` does."""

    command: ClassVar[str] = "rebuild"
    lake: str
    lake_config: Mapping[str, str]
    index: str
    json: bool


@dataclass(frozen=True)
class ExpireSettings:
    """What ``persistor expire`` does.

    Attributes:
        index: None where nothing points into the lake.
        before: with time zone.
        sources: all of them where it is empty.
        yes: delete; else only the plan is made.
    """

    command: ClassVar[str] = "expire"
    lake: str
    lake_config: Mapping[str, str]
    index: str | None
    before: datetime
    sources: tuple[str, ...]
    yes: bool
    json: bool


@dataclass(frozen=True)
class Destination:
    """A broker that API requests may send to: its URL without a topic, and its client's settings."""

    url: str
    config: Mapping[str, str]


@dataclass(frozen=True)
class ApiSettings:
    """What ``persistor api`` serves.

    Attributes:
        destinations: by the name that requests use.
        inline_limit: messages up to which a selection is sent without a job.
    """

    command: ClassVar[str] = "api"
    destinations: Mapping[str, Destination]
    lakes: tuple[str, ...]
    lake_config: Mapping[str, str]
    index: str
    host: str
    port: int
    inline_limit: int
    launcher: str
    launcher_config: Mapping[str, str]
    metrics: tuple[str, ...]
    tokens: str | None
    session_key: str | None
    requests_per_minute: int
    trusted_proxy: str | None
    compatible: Mapping[str, str]


@dataclass(frozen=True)
class TokenSettings:
    """What ``persistor token`` makes; the patterns are empty where all are meant."""

    command: ClassVar[str] = "token"
    name: str
    role: str
    allow_source: tuple[str, ...]
    allow_destination: tuple[str, ...]
