"""Reads messages from librdkafka and converts them to columns."""

from __future__ import annotations

import contextlib
import operator
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from transforms.brokers import Fetched, Partition
from transforms.model import HEADERS, LATEST_US, MESSAGE_SCHEMA, UTC_MICROSECONDS

__all__ = ["GATHER", "Run", "consume", "times"]

GATHER = 0.02
"""Seconds to wait for further messages once there is one."""
_NO_TIME = -1
_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001 - librdkafka's name for a local error


class Run(NamedTuple):
    """Messages of one partition and leader epoch, in order, none with an error among them.

    Attributes:
        first: the position of the first one.
    """

    first: int
    fetched: Fetched


def consume(consumer: Consumer, most: int, seconds: float) -> list[Run | Message]:
    """Wait up to ``seconds`` for messages; what is returned may be less than is there.

    Returns:
        Runs, and messages that are errors, in order as far as one partition goes: but for its end, an
        error ends a run.

    Raises:
        KafkaException: librdkafka refuses the call.
    """
    messages = consumer.consume(1, seconds)
    if messages and most > 1:
        # librdkafka waits until it has the requested number, so ask only for a moment.
        # The first message is already read; the next call reports an error here.
        with contextlib.suppress(KafkaException):
            messages += consumer.consume(most - 1, GATHER)
    return [*_runs(messages)]


def _runs(messages: list[Message]) -> Iterator[Run | Message]:
    sound = not any(map(Message.error, messages))
    for group in _by_partition(messages) if sound else _around_errors(messages):
        if isinstance(group, list):
            yield from _by_epoch(group)
        else:
            yield group


def _around_errors(messages: list[Message]) -> list[list[Message] | Message]:
    groups: list[list[Message] | Message] = []
    open: dict[tuple[str, int], list[Message]] = {}
    for message in messages:
        place, error = (message.topic(), message.partition()), message.error()
        if error is not None:
            groups.append(message)
            if error.code() != _EOF:
                open.pop(place, None)
        elif place in open:
            open[place].append(message)
        else:
            open[place] = [message]
            groups.append(open[place])
    return groups


def _by_partition(messages: list[Message]) -> list[list[Message]]:
    """Group messages by partition, stably; librdkafka returns runs of one partition, so runs are sorted."""
    if not messages:
        return []
    numbers = np.fromiter(map(Message.partition, messages), np.int32, len(messages))
    names = np.fromiter(map(Message.topic, messages), object, len(messages))
    changes = (numbers[1:] != numbers[:-1]) | (names[1:] != names[:-1])
    starts = [0, *(np.flatnonzero(changes) + 1).tolist()]
    runs: dict[tuple[str, int], list[Message]] = {}
    for start, end in zip(starts, [*starts[1:], len(messages)], strict=True):
        first = messages[start]
        runs.setdefault((first.topic(), first.partition()), []).extend(messages[start:end])
    return list(runs.values())


def _by_epoch(messages: list[Message]) -> Iterator[Run]:
    start, epoch = 0, messages[-1].leader_epoch()
    if messages[0].leader_epoch() != epoch:
        start = bisect_left(messages, epoch, key=Message.leader_epoch)
        yield from _by_epoch(messages[:start])
    yield _run(messages[start:], epoch)


def _run(messages: list[Message], epoch: int | None) -> Run:
    rows, topic, number = len(messages), messages[0].topic(), messages[0].partition()
    offsets = np.fromiter(map(Message.offset, messages), np.int64, rows)
    stamps = map(operator.itemgetter(1), map(Message.timestamp, messages))
    table = pa.table(
        [
            pa.nulls(rows, pa.string()),
            pa.repeat(pa.scalar(topic, pa.string()), rows),
            pa.repeat(pa.scalar(number, pa.int32()), rows),
            pa.array(offsets),
            times(np.fromiter(stamps, np.int64, rows)),
            pa.array(list(map(Message.key, messages)), pa.binary()),
            pa.array(list(map(Message.value, messages)), pa.binary()),
            _headers(messages),
        ],
        schema=MESSAGE_SCHEMA,
    )
    return Run(int(offsets[0]), Fetched(Partition(topic, number), table, int(offsets[-1]) + 1, epoch=epoch))


def _headers(messages: list[Message]) -> pa.Array:
    found: list[Any] = []
    unreadable = np.zeros(len(messages), np.bool_)
    each = map(Message.headers, messages)
    while len(found) < len(messages):
        try:
            found.extend(each)
        except SystemError as error:  # the client fails this way at a name that is not UTF-8
            if not _is_of_name(error):
                raise
            unreadable[len(found)] = True
            found.append(None)
    headers = pa.array(found, HEADERS)
    # If a message has none, the client returns None; without a mask of nulls that is an empty list.
    mask = pa.array(unreadable) if unreadable.any() else None
    return pa.ListArray.from_arrays(headers.offsets, headers.values, type=HEADERS, mask=mask)


def _is_of_name(error: BaseException | None) -> bool:
    while isinstance(error, SystemError):  # of several such names, each wraps that of the name before it
        error = error.__cause__
    return isinstance(error, UnicodeDecodeError)


def times(milliseconds: npt.NDArray[np.int64]) -> pa.Array:
    """Publish times; null where the record has no time. Others, 0 and negative ones too, are times."""
    # Producers may set times that do not fit 64 bits as microseconds: these are limited to the maximum.
    microseconds = np.clip(milliseconds, -LATEST_US // 1000, LATEST_US // 1000) * 1000
    return pa.array(microseconds, UTC_MICROSECONDS, mask=milliseconds == _NO_TIME)
