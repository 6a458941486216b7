"""The frozen plan of a resubmission: which rows of which files, in which order, in which lane."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa

from transforms.errors import ConfigurationError

__all__ = [
    "LANES",
    "WINDOW_SCHEMA",
    "Options",
    "Plan",
    "SourcePlan",
    "iso_time",
    "new_job_id",
]

LANES = 16
"""Lanes of every plan. A source partition is always in the same one, so its order is kept."""

WINDOW_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("location", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("checksum", pa.int64()),
    ]
)
"""A window is what is read and checked at a time: rows of one lane in their order."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VERSION = 1


def new_job_id() -> str:
    """A fresh id of 26 letters and digits that sorts by its time (the form of a ULID)."""
    number = (time.time_ns() // 1_000_000 << 80) | random.SystemRandom().getrandbits(80)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -5, -5))


def iso_time(microseconds: int | None) -> str | None:
    """Microseconds since 1970 as ISO 8601 in UTC."""
    if microseconds is None:
        return None
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=rest).isoformat()


@dataclass(frozen=True)
class Options:
    """How a selection is sent again.

    Attributes:
        timestamp: ``original`` keeps each message's publish time, ``now`` takes the current time.
        partitions: ``original`` keeps partition numbers, ``key`` lets the key choose;
            None is ``original`` where source and destination are seen to have the same count.
        lossy: send what the destination cannot carry in a reduced form instead of refusing.
    """

    timestamp: str = "original"
    partitions: str | None = None
    lossy: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown values, all of them at once."""
        problems = []
        if self.timestamp not in {"original", "now"}:
            problems.append(f"timestamp {self.timestamp!r}: write original or now.")
        if self.partitions not in {None, "original", "key"}:
            problems.append(f"partitions {self.partitions!r}: write original or key.")
        if problems:
            raise ConfigurationError(problems)


@dataclass(frozen=True)
class SourcePlan:
    """What a plan holds of one source; times in microseconds since 1970."""

    source: str
    messages: int
    bytes: int
    oldest_us: int | None
    newest_us: int | None


@dataclass(frozen=True)
class Plan:
    """What a job will do, found out before anything is sent.

    Attributes:
        job: the job's id.
        selection: the selection as JSON.
        destination: URL of the destination, secret references unresolved.
        topic: the destination's topic.
        options: as given, with ``partitions`` decided.
        lanes: messages by lane; lanes without messages are left out.
        messages: how many messages will be sent.
        bytes: their sizes together.
        files: how many lake files hold them.
        requests: how many times a file is opened to read them.
        largest: size of the largest message.
        oldest_us: earliest publish time, microseconds since 1970.
        newest_us: latest publish time.
        sources: the same by source.
        cannot_carry: what the destination cannot carry, in words, with the number of messages.
        problems: why the job must not run, in sentences; empty where it may.
        warnings: what an operator should know.
        deduplication: how repeats after a crash are prevented, one sentence.
        attempt: the folder of the stored windows, "" where the plan is not stored.
    """

    job: str
    selection: Mapping[str, Any]
    destination: str
    topic: str
    options: Options
    lanes: Mapping[int, int]
    messages: int
    bytes: int
    files: int
    requests: int
    largest: int
    oldest_us: int | None
    newest_us: int | None
    sources: tuple[SourcePlan, ...] = ()
    cannot_carry: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    deduplication: str = ""
    attempt: str = ""

    def report(self) -> dict[str, Any]:
        """The plan for people and for an API: JSON types, times as ISO 8601 in UTC."""
        report = asdict(self)
        for times in (report, *report["sources"]):
            times["oldest"] = iso_time(times.pop("oldest_us"))
            times["newest"] = iso_time(times.pop("newest_us"))
        return {name: value for name, value in report.items() if name not in {"lanes", "attempt"}}

    def to_json(self) -> str:
        """The stored form."""
        return json.dumps({"version": _VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """The inverse of :meth:`to_json`.

        Raises:
            ConfigurationError: a newer Persistor wrote it.
        """
        stored = json.loads(text)
        if stored.pop("version") != _VERSION:
            raise ConfigurationError(f"Plan {stored['job']} was made by another version: start a new job.")
        stored["options"] = Options(**stored["options"])
        stored["lanes"] = {int(lane): count for lane, count in stored["lanes"].items()}
        stored["sources"] = tuple(SourcePlan(**source) for source in stored["sources"])
        return cls(**stored | {name: tuple(stored[name]) for name in ("problems", "warnings")})
