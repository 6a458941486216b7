"""The frozen plan of a resubmission: which rows of which files, in which order, in which lane."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from transforms.errors import ConfigurationError, PermanentError
from transforms.lake import INTERNAL, Lake, ObjectMissingError
from transforms.model import UTC_MICROSECONDS
from transforms.replay.figures import Histogram, Sample, SourcePlan
from transforms.replay.options import Options
from transforms.stored import dump, from_fields, load
from transforms.times import iso_time

__all__ = [
    "COMMIT_MESSAGES",
    "LANES",
    "WINDOW_SCHEMA",
    "Plan",
    "PlanStore",
    "first_row",
    "folder",
    "lane_topic",
    "lane_url",
    "load_plan",
    "new_job_id",
    "read_windows",
]

LANES = 16
"""Maximum lanes of a topic. A source partition is always in the same lane, so its order is preserved."""

COMMIT_MESSAGES = 20_000
"""Maximum messages confirmed together, and so the maximum that may repeat without deduplication."""

WINDOW_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("publish_time", UTC_MICROSECONDS),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("location", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("checksum", pa.int64()),
    ]
)
"""A window is read and checked at a time: rows of one lane in order, from the index."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VERSION = 2
_INTERNAL = {"lanes", "carries", "attempt"}
_TUPLES = "problems", "warnings", "topics", "keyed"
_MESSAGES_PER_SECOND = 100_000.0
_BYTES_PER_SECOND = 50_000_000.0
_OBJECT_BYTES = 1 << 20
_OPEN_BYTES = 64 << 20
_DAMAGED = "The plan of job {} is damaged in the lake: start a new job."
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)


def new_job_id(ago: float = 0.0) -> str:
    """A new id of 26 letters and digits that sorts by time (the form of a ULID).

    Args:
        ago: seconds before now to use as its time.
    """
    number = (int((time.time() - ago) * 1000) << 80) | random.SystemRandom().getrandbits(80)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -5, -5))


@dataclass(frozen=True)
class Plan:
    """What a job will do, determined before anything is sent.

    Attributes:
        job: the job's id.
        selection: the selection as JSON.
        destination: URL of the destination, secret references unresolved.
        topic: the destination's topic, or a pattern of ``{topic}``, ``{source}`` and ``{origin}``.
        options: as given, with ``partitions`` decided if there is one topic.
        lanes: messages by lane; lanes without messages are left out. See :func:`lane_topic`.
        messages: how many messages will be sent.
        bytes: their sizes together.
        files: how many lake files hold them.
        requests: how often a file is opened to read them.
        largest: size of the largest message.
        oldest_us: earliest publish time, microseconds since 1970.
        newest_us: latest publish time.
        sources: these figures by source.
        cannot_carry: what the destination cannot carry, in words, with the number of messages.
        problems: why the job must not run, in sentences; empty if it may.
        warnings: what an operator should know.
        deduplication: how repeats after a crash are prevented, one sentence.
        carries: the destination's ``Trait`` set.
        exactly_once: whether the destination commits messages and progress together.
        topics: the topics that the pattern yields; the topic itself if it is not a pattern.
        keyed: topics in which the key chooses the partition.
        histogram: messages by publish time.
        samples: ten messages, spread over the selection.
        attempt: the folder of the stored windows, "" if the plan is not stored.
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
    carries: int = 0
    exactly_once: bool = False
    topics: tuple[str, ...] = ()
    keyed: tuple[str, ...] = ()
    histogram: Histogram | None = None
    samples: tuple[Sample, ...] = ()
    attempt: str = ""

    def estimated_seconds(
        self, messages_per_second: float | None = None, bytes_per_second: float | None = None
    ) -> float:
        """Seconds that publishing takes: at the usual rate of one worker, the rate limit, or the speed."""
        messages = min(messages_per_second or _MESSAGES_PER_SECOND, _MESSAGES_PER_SECOND)
        size = min(bytes_per_second or _BYTES_PER_SECOND, _BYTES_PER_SECOND)
        times_original, span = self.options.times_original, (self.newest_us or 0) - (self.oldest_us or 0)
        spaced = span / 1_000_000 / times_original if times_original else 0.0
        return round(max(self.messages / messages, self.bytes / size, spaced), 3)

    def report(self) -> dict[str, Any]:
        """The plan for users and the API: JSON types, times as ISO 8601 in UTC."""
        report = asdict(self)
        for times in (report, *report["sources"]):
            times["oldest"] = iso_time(times.pop("oldest_us"))
            times["newest"] = iso_time(times.pop("newest_us"))
        for sample in report["samples"]:
            sample["publish_time"] = iso_time(sample.pop("publish_time_us"))
        if (histogram := report["histogram"]) is not None:
            histogram["start"] = iso_time(histogram.pop("start_us"))
            histogram["width_seconds"] = histogram.pop("width_us") / 1_000_000
        report["estimated_seconds"] = self.estimated_seconds()
        return {name: value for name, value in report.items() if name not in _INTERNAL}

    def to_json(self) -> str:
        """The stored form."""
        return dump(asdict(self), version=_VERSION)

    @classmethod
    def from_json(cls, text: str | memoryview, what: str = "the plan") -> Plan:
        """The inverse of :meth:`to_json`.

        Args:
            what: names the object in errors.

        Raises:
            PermanentError: it is something else, or a newer release wrote it.
        """
        stored = load(text, what, newest=_VERSION)
        try:
            stored["options"] = from_fields(Options, stored["options"])
            stored["lanes"] = {int(lane): count for lane, count in stored["lanes"].items()}
            stored["sources"] = tuple(from_fields(SourcePlan, source) for source in stored["sources"])
            stored["samples"] = tuple(from_fields(Sample, sample) for sample in stored["samples"])
            if (histogram := stored["histogram"]) is not None:
                fields = histogram | {"messages": tuple(histogram["messages"])}
                stored["histogram"] = from_fields(Histogram, fields)
            return from_fields(cls, stored | {name: tuple(stored[name]) for name in _TUPLES})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PermanentError(f"{what} is damaged: start a new job.") from error


def lane_topic(plan: Plan, lane: int) -> str:
    """The topic that a lane publishes to."""
    return plan.topics[lane // LANES]


def lane_url(plan: Plan, lane: int) -> str:
    """The URL of that topic, secret references unresolved."""
    if plan.topic == lane_topic(plan, lane):
        return plan.destination
    return f"{plan.destination.rpartition('/')[0]}/{lane_topic(plan, lane)}"


def folder(job: str) -> str:
    """The folder of a job in a lake."""
    return f"{INTERNAL}plans/{job}"


def load_plan(lake: Lake, job: str) -> Plan:
    """The stored plan of a job.

    Raises:
        ConfigurationError: the lake has no plan of this job.
        PermanentError: what the lake has is damaged, or a newer release wrote it.
        TransientError: the lake does not answer.
    """
    path = f"{folder(job)}/plan.json"
    try:
        return Plan.from_json(lake.get(path), f"The plan of job {job} ({lake.location(path)})")
    except ObjectMissingError as error:
        raise ConfigurationError(
            f"{lake.url} has no plan of job {job!r}: check the id and `lake`."
        ) from error


def read_windows(lake: Lake, plan: Plan, lane: int, done: int = 0) -> Iterator[pa.RecordBatch]:
    """The windows of a lane from row ``done`` on, in order (``WINDOW_SCHEMA``).

    Raises:
        PermanentError: the next rows are incomplete; those before them were returned.
        TransientError: the lake does not answer.
    """
    paths = sorted(path for path, _ in lake.list(f"{folder(plan.job)}/{plan.attempt}/{lane:02d}"))
    firsts = [first_row(path) for path in paths]
    if firsts[:1] != [0]:
        raise PermanentError(_DAMAGED.format(plan.job))
    for path, first, end in zip(paths, firsts, [*firsts[1:], plan.lanes[lane]], strict=True):
        if end > done:
            try:
                yield from _windows_behind(lake.get(path), max(done - first, 0), end - first)
            except (pa.ArrowException, OSError) as error:
                raise PermanentError(_DAMAGED.format(plan.job)) from error


class PlanStore:
    """Writes a plan to a lake, window by window; it is stored once :meth:`finish` returns.

    Each attempt writes to its own folder, and the first to finish wins, so two processes that plan the same
    job agree on one plan.
    """

    def __init__(self, lake: Lake, job: str) -> None:
        """Write below ``folder(job)`` of the lake."""
        self._lake, self._job = lake, job
        self._attempt = new_job_id()
        self._open: dict[int, _LaneObject] = {}
        self._rows: dict[int, int] = {}
        self._paths: list[str] = []

    def add(self, lane: int, window: pa.RecordBatch) -> int:
        """Append a window (``WINDOW_SCHEMA``) to a lane. Raises ``TransientError`` like the lake.

        Returns:
            The number of files opened to read the window.
        """
        target = self._open.get(lane)
        if target is None:
            target = self._open[lane] = _LaneObject(self._rows.get(lane, 0))
        target.writer.write_batch(window)
        self._rows[lane] = self._rows.get(lane, 0) + len(window)
        if target.sink.tell() >= _OBJECT_BYTES:
            self._put(lane)
        elif sum(open.sink.tell() for open in self._open.values()) >= _OPEN_BYTES:
            self._put(max(self._open, key=lambda lane: self._open[lane].sink.tell()))
        return len(pc.unique(window["location"]))

    def finish(self, plan: Plan) -> Plan:
        """Freeze the plan; returns the job's plan, possibly one frozen earlier."""
        for lane in list(self._open):
            self._put(lane)
        plan = replace(plan, attempt=self._attempt)
        if self._lake.put_new(f"{folder(self._job)}/plan.json", plan.to_json().encode()):
            return plan
        stored = load_plan(self._lake, self._job)
        if stored.attempt != self._attempt:  # otherwise it is ours, and the store's first answer was lost
            self.abandon()
        return stored

    def abandon(self) -> None:
        """Remove the written objects."""
        for path in self._paths:
            self._lake.delete(path)

    def _put(self, lane: int) -> None:
        done = self._open.pop(lane)
        path = f"{folder(self._job)}/{self._attempt}/{lane:02d}/{done.first:012d}.arrow"
        done.writer.close()
        self._paths.append(path)
        self._lake.put_new(path, done.sink.getvalue())


class _LaneObject:
    def __init__(self, first: int) -> None:
        self.first = first
        self.sink = pa.BufferOutputStream()
        self.writer = pa.ipc.new_stream(self.sink, WINDOW_SCHEMA, options=_COMPRESSED)


def first_row(path: str) -> int:
    """The row of its lane at which a plan object begins."""
    return int(path.rpartition("/")[2].removesuffix(".arrow"))


def _windows_behind(data: memoryview, skip: int, rows: int) -> Iterator[pa.RecordBatch]:
    """The windows after the first ``skip`` of ``rows`` rows. A hole would shift the count of handled rows."""
    for window in pa.ipc.open_stream(pa.py_buffer(data)):
        if skip < len(window):
            yield window.slice(max(skip, 0))
        skip -= len(window)
        rows -= len(window)
    if rows:
        raise pa.ArrowInvalid("rows are missing")
