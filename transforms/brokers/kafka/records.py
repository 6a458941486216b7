"""Converts messages of librdkafka to columns."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import Message

from transforms.brokers import Fetched, Partition
from transforms.model import HEADERS, LATEST_US, MESSAGE_SCHEMA, UTC_MICROSECONDS

__all__ = ["by_partition", "fetched"]

_NO_TIME = -1


def by_partition(messages: list[Message], *, several: bool) -> Iterator[tuple[str, int, list[Message]]]:
    """Group messages by partition, stably; librdkafka returns runs of one partition, so runs are sorted.

    Args:
        several: whether they may be from several topics.
    """
    if not messages:
        return iter(())
    numbers = np.fromiter(map(Message.partition, messages), np.int32, len(messages))
    changes = numbers[1:] != numbers[:-1]
    if several:
        names = np.fromiter(map(Message.topic, messages), object, len(messages))
        changes |= names[1:] != names[:-1]
    starts = [0, *(np.flatnonzero(changes) + 1).tolist()]
    runs: dict[tuple[str, int], list[Message]] = {}
    for start, end in zip(starts, [*starts[1:], len(messages)], strict=True):
        first = messages[start]
        runs.setdefault((first.topic(), first.partition()), []).extend(messages[start:end])
    return ((topic, number, group) for (topic, number), group in runs.items())


def fetched(topic: str, number: int, messages: list[Message]) -> Iterator[Fetched]:
    """Messages of one partition, in order, apart where another leader went on writing.

    The position behind each part is that of its last message.
    """
    start, epoch = 0, messages[-1].leader_epoch()
    if messages[0].leader_epoch() != epoch:
        start = bisect_left(messages, epoch, key=Message.leader_epoch)
        yield from fetched(topic, number, messages[:start])
    yield Fetched(*_read(topic, number, messages[start:]), epoch=epoch)


def _read(topic: str, number: int, messages: list[Message]) -> tuple[Partition, pa.Table, int]:
    rows = len(messages)
    offsets = np.fromiter(map(Message.offset, messages), np.int64, rows)
    table = pa.table(
        [
            pa.nulls(rows, pa.string()),
            pa.repeat(pa.scalar(topic, pa.string()), rows),
            pa.repeat(pa.scalar(number, pa.int32()), rows),
            pa.array(offsets),
            _times(messages),
            pa.array(list(map(Message.key, messages)), pa.binary()),
            pa.array(list(map(Message.value, messages)), pa.binary()),
            _headers(messages),
        ],
        schema=MESSAGE_SCHEMA,
    )
    return Partition(topic, number), table, int(offsets[-1]) + 1


def _headers(messages: list[Message]) -> pa.Array:
    found: list[Any] = []
    unreadable = np.zeros(len(messages), np.bool_)
    each = map(Message.headers, messages)
    while len(found) < len(messages):
        try:
            found.extend(each)
        except SystemError as error:  # the client fails this way at a name that is not UTF-8
            if not isinstance(error.__cause__, UnicodeDecodeError):
                raise
            unreadable[len(found)] = True
            found.append(None)
    headers = pa.array(found, HEADERS)
    # If a message has none, the client returns None; without a mask of nulls that is an empty list.
    mask = pa.array(unreadable) if unreadable.any() else None
    return pa.ListArray.from_arrays(headers.offsets, headers.values, type=HEADERS, mask=mask)


def _times(messages: list[Message]) -> pa.Array:
    """Milliseconds of the record; null where it has no time. Others, 0 and negative ones too, are times."""
    stamps = map(operator.itemgetter(1), map(Message.timestamp, messages))
    milliseconds = np.fromiter(stamps, np.int64, len(messages))
    # Producers may set times that do not fit 64 bits as microseconds: these are limited to the maximum.
    microseconds = np.clip(milliseconds, -LATEST_US // 1000, LATEST_US // 1000) * 1000
    return pa.array(microseconds, UTC_MICROSECONDS, mask=milliseconds == _NO_TIME)
