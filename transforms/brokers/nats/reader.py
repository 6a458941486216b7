"""Reading from NATS JetStream; see :mod:`transforms.brokers.nats`."""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from transforms.brokers import NO_MARKS, Acknowledgement, Fetched, Mark, OffsetGapError, Partition, Unreadable
from transforms.brokers._patterns import say_unmatched
from transforms.brokers.nats.connection import ApiError, Connection, parse_url
from transforms.brokers.nats.filter_reader import Lane
from transforms.brokers.nats.streams import (
    Stream,
    ask,
    created,
    durable_floor,
    identity_of,
    meet,
    move_floor,
    streams_of,
)
from transforms.errors import ConfigurationError, PersistorError, TransientError

__all__ = ["NatsReader"]

_WILDCARDS = "Patterns are subjects of NATS (* is one token, a last > all that follow)."
_OVERHEAD = 64 << 10
"""Maximum bytes that subject and reply subject add to a message."""


class NatsReader:
    """Reads subject filters by stream sequence; see :class:`transforms.brokers.Reader`."""

    positions = True
    way = ""
    reads_freely = False  # it makes consumers

    def __init__(
        self,
        url: str,
        config: Mapping[str, str],
        shard: tuple[int, int],
        group: str,
        exclude: Sequence[str],
        *,
        memory: int,
    ) -> None:
        address = parse_url(url)
        self._filters = address.subjects
        _check(self._filters, exclude)
        self._connection = Connection(address, config)
        self._shard = shard
        self._group = group
        self._exclude = tuple(exclude)
        self._memory = memory
        self._streams: dict[Partition, Stream] = {}
        self._seen: set[str] = set()
        self._lanes: dict[Partition, Lane] = {}

    def identity(self) -> str:
        """Account and JetStream domain; a server's or cluster's own name may change, so it is left out."""
        return identity_of(self._connection)

    def discover(self) -> Mapping[Partition, str]:
        """See :class:`transforms.brokers.Reader`."""
        found: dict[Partition, Stream] = {}
        problems = []
        for subject in self._filters:
            topics = self._topics(subject)
            if topics:
                self._seen.add(subject)
            elif not _is_pattern(subject) and subject not in self._seen:
                problems.append(f"No JetStream stream holds {subject!r}; create one or correct the subject.")
            found |= {Partition(topic, 0): stream for topic, stream in topics.items()}
        if problems:
            raise ConfigurationError(problems)
        say_unmatched("nats", [one for one in self._filters if one not in self._seen], _WILDCARDS)
        self._streams = {partition: found[partition] for partition in found if self._is_mine(partition)}
        return {partition: stream.incarnation for partition, stream in self._streams.items()}

    def incarnations(self, partitions: Collection[Partition]) -> Mapping[Partition, str]:
        """As their streams say, each asked once."""
        streams = {p: self._streams[p].name for p in partitions if p in self._streams}
        there = {name: created(self._connection, name) for name in set(streams.values())}
        return {p: f"{name}@{there[name]}" for p, name in streams.items() if there[name]}

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, tuple[int, str]]:
        """See :class:`transforms.brokers.Reader`; NATS keeps no note, and is asked for each."""
        floors = {partition: self._floor(partition) for partition in partitions}
        return {partition: (floor + 1, "") for partition, floor in floors.items() if floor}

    def earliest(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """See :class:`transforms.brokers.Reader`."""
        return {p: max(int(self._info(p)["state"]["first_seq"]), 1) for p in partitions}

    def retention(self, partition: Partition) -> float | None:
        """The stream's ``max_age``; see :class:`transforms.brokers.Reader`."""
        return int(self._info(partition)["config"].get("max_age", 0)) / 1e9 or None

    def examine(self, partition: Partition) -> tuple[list[str], list[str]]:  # noqa: ARG002 - as in the contract
        """No findings: only a consumer would show them, and a work queue allows only one."""
        return [], []

    def assign(
        self,
        positions: Mapping[Partition, int],
        marks: Mapping[Partition, Mark] = NO_MARKS,  # noqa: ARG002 - as in the contract
    ) -> None:
        """See :class:`transforms.brokers.Reader`."""
        for partition in [p for p in self._lanes if not self._goes_on(p, positions)]:
            self._lanes.pop(partition).close()
        for partition, position in positions.items():
            if partition not in self._lanes:
                self._lanes[partition] = self._lane(partition, position)

    def poll(self, seconds: float) -> list[Fetched]:
        """See :class:`transforms.brokers.Reader`. Raises ``TransientError`` while NATS is away."""
        deadline = time.monotonic() + seconds
        while True:
            self._connection.open()
            self._connection.arrived.clear()
            fetched = self._fetch()
            left = deadline - time.monotonic()
            if fetched or left <= 0:
                return fetched
            self._connection.check()
            # Wait in short steps: a lost connection or consumer does not set the event.
            self._connection.arrived.wait(min(left, 0.5))

    def unreadable(self) -> Sequence[Unreadable]:
        """What servers answered instead of messages; each reader opens anew then."""
        found = []
        for partition, lane in self._lanes.items():
            said, lane.refusals = lane.refusals, []
            found += [Unreadable(partition, lane.given, reason[:3], reason) for reason in said]
        return found

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Move the durable consumers; see :class:`transforms.brokers.Reader`."""
        for acknowledgement in acknowledgements:
            partition, position = acknowledgement.partition, acknowledgement.position
            lane = self._lanes.get(partition)
            stream = lane.stream if lane else self._stream(partition)
            if stream.retention == "workqueue":
                self._acknowledge_queue(lane, position)
            else:
                durable = stream.durable(self._group, partition.topic)
                # If the stream is gone, there is nothing to acknowledge.
                with contextlib.suppress(ApiError):
                    move_floor(self._connection, stream, partition.topic, durable, position)

    def release(self, receipts: Sequence[Any]) -> None:
        """Does nothing: reading continues by position."""

    def lag(self) -> Mapping[Partition, int]:
        """See :class:`transforms.brokers.Reader`."""
        return {partition: lane.lag for partition, lane in list(self._lanes.items())}

    def close(self) -> None:
        """See :class:`transforms.brokers.Reader`."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()
        self._connection.close()

    def _topics(self, subject: str) -> dict[str, Stream]:
        """The topics that a filter matches, one per subject of a stream, as narrow as both."""
        found = {}
        streams, missing = streams_of(self._connection, subject)
        # A cluster does not list streams without a leader: their known state is kept.
        known = [stream for stream in self._streams.values() if stream.name in missing]
        for stream in known + streams:
            for held in stream.subjects:
                topic = meet(subject, held)
                if (
                    topic
                    and topic.startswith("$") == subject.startswith("$")
                    and not self._is_excluded(topic)
                ):
                    found[topic] = stream
        if missing and not (found or _is_pattern(subject) or subject in self._seen):
            raise TransientError(f"the stream of {subject!r} does not answer")
        return found

    def _is_excluded(self, topic: str) -> bool:
        return any(fnmatchcase(topic, pattern) for pattern in self._exclude)

    def _is_mine(self, partition: Partition) -> bool:
        index, count = self._shard
        return zlib.crc32(partition.topic.encode()) % count == index

    def _floor(self, partition: Partition) -> int | None:
        stream = self._stream(partition)
        return durable_floor(self._connection, stream, stream.durable(self._group, partition.topic))

    def _info(self, partition: Partition) -> dict[str, Any]:
        try:
            return ask(self._connection, f"STREAM.INFO.{self._stream(partition).name}")
        except ApiError as error:
            raise TransientError(f"the stream of {partition.topic!r} is gone") from error

    def _stream(self, partition: Partition) -> Stream:
        if partition not in self._streams:
            self.discover()
        if partition not in self._streams:
            raise TransientError(f"no stream of NATS holds {partition.topic!r} now")
        return self._streams[partition]

    def _lane(self, partition: Partition, position: int) -> Lane:
        stream = self._stream(partition)
        durable = stream.durable(self._group, partition.topic)
        return Lane(
            self._connection, stream, partition.topic, durable, position, wanted=self._without_excluded
        )

    def _goes_on(self, partition: Partition, positions: Mapping[Partition, int]) -> bool:
        if partition not in positions:
            return False
        lane, stream = self._lanes[partition], self._streams.get(partition)
        same = stream is None or stream.created == lane.stream.created
        return same and lane.resume(positions[partition])

    def _fetch(self) -> list[Fetched]:
        limit = int(self._connection.info()["max_payload"]) + _OVERHEAD
        window = max(self._memory // max(2 * len(self._lanes), 1), limit)
        fetched, room = list[Fetched](), max(self._memory // (2 * window), 1)
        for partition, lane in list(self._lanes.items()):
            asked = lane.asks
            try:
                table = lane.take()
            except PersistorError:
                # Messages of other lanes must not be lost with it; a later call raises it again.
                self._to_the_end(partition)
                if fetched:
                    break
                raise
            if table is not None:
                fetched.append(Fetched(partition, table, lane.given))
            if asked and not lane.asks:
                self._to_the_end(partition)
        self._ask_for_more(window, room)
        gaps = {partition: lane.gap for partition, lane in self._lanes.items() if lane.gap is not None}
        if gaps and not fetched:
            raise OffsetGapError(gaps)
        return fetched

    def _ask_for_more(self, window: int, room: int) -> None:
        """Have each lane sent a window, and those that are behind in turn where not all have room."""
        behind = [lane for lane in self._lanes.values() if lane.pending]
        asking = sum(lane.asks for lane in behind)
        for lane in self._lanes.values():
            before = lane.asks
            if not lane.pending or (len(behind) <= room if before else asking < room):
                lane.ask_for_more(window)
                asking += lane.asks - before

    def _to_the_end(self, partition: Partition) -> None:
        self._lanes[partition] = self._lanes.pop(partition)

    def _without_excluded(self, messages: pa.Table) -> pa.Table:
        """A wide filter may match the job's own subjects."""
        if not self._exclude:
            return messages
        excluded = [s for s in pc.unique(messages["topic"]).to_pylist() if self._is_excluded(s)]
        if not excluded:
            return messages
        return messages.filter(pc.invert(pc.is_in(messages["topic"], pa.array(excluded, pa.string()))))

    def _acknowledge_queue(self, lane: Lane | None, position: int) -> None:
        """One acknowledgement per message; the answer to the last covers all before it."""
        replies = lane.unacknowledged(position) if lane else []
        if lane is None or not replies:
            return
        self._connection.send(b"".join(b"PUB %s 4\r\n+ACK\r\n" % reply for reply in replies[:-1]))
        self._connection.request(replies[-1].decode(), b"+ACK")
        lane.forget(position)


def _is_pattern(subject: str) -> bool:
    return bool({"*", ">"} & set(subject.split(".")))


def _check(filters: Sequence[str], exclude: Sequence[str]) -> None:
    problems = [
        f"{one!r} and {other!r} match the same subjects, so their messages would be archived twice."
        for one, other in combinations(dict.fromkeys(filters), 2)
        if meet(one, other)
    ]
    problems += [
        f"{subject!r} is one of the job's own topics or excluded, so it cannot be a source."
        for subject in filters
        if not _is_pattern(subject) and any(fnmatchcase(subject, pattern) for pattern in exclude)
    ]
    if problems:
        raise ConfigurationError(problems)
