"""Reads with the extension ``_native``: messages become columns without a Python object each.

It calls the client's own functions, also those that are private to one version of it. So it is used with
versions whose sources were compared; with others, or where it was not built, :mod:`records` does the same.
"""

from __future__ import annotations

import importlib
import os
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import confluent_kafka
import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, Message, cimpl

from transforms.brokers import Fetched, Partition
from transforms.brokers.kafka.records import GATHER, Run, times
from transforms.model import HEADERS, MESSAGE_SCHEMA

__all__ = ["IN_C", "IN_PYTHON", "SWITCH", "consume", "why_not"]

IN_C = "Kafka is read by the extension in C."
IN_PYTHON = "Kafka is read in Python, which is slower; the extension in C is not used: {}."

SWITCH = "PERSISTOR_NATIVE"
"""The environment variable that is 0 where the extension must not be used."""

# To add one: compare CallState, CallState_begin, CallState_end, the begin of Handle, Handle_serialize_enter,
# Message_new0 and Consumer_consume of its sources, then run the contract suite with it.
_VERIFIED = {"2.16.1"}
_INTERFACE = 1


class _Group(NamedTuple):
    """What the extension gives: messages of one partition and epoch.

    Attributes:
        nulls: keys, data, lists of headers, values of headers that are null.
        starts: of each column in the block, and its end.
    """

    topic: str
    partition: int
    epoch: int
    first: int
    last: int
    rows: int
    headers: int
    nulls: tuple[int, int, int, int]
    block: Any
    starts: tuple[int, ...]


def why_not() -> str | None:
    """Why messages are not read by the extension; None where they are."""
    if os.environ.get(SWITCH) == "0":
        return f"{SWITCH}=0 is set"
    return _loaded()[1]


def consume(consumer: Consumer, most: int, seconds: float) -> list[Run | Message]:
    """See :func:`transforms.brokers.kafka.records.consume`; usable where :func:`why_not` is None.

    Raises:
        OverflowError: a message has more than 2 GB in one field.
    """
    extension, why = _loaded()
    assert extension is not None, why  # noqa: S101
    found = extension.consume(consumer, most, seconds, GATHER)
    return [_run(_Group(*one)) if isinstance(one, tuple) else one for one in found]


@cache
def _loaded() -> tuple[ModuleType | None, str | None]:
    version = confluent_kafka.version()
    if version not in _VERIFIED:
        return None, f"it is not verified with confluent-kafka {version}"
    try:
        extension = importlib.import_module("transforms.brokers.kafka._native")
    except ImportError as error:
        return None, f"it was not built where Persistor was installed ({error})"
    if extension.INTERFACE != _INTERFACE:
        return None, "it was built from other sources: install Persistor anew"
    try:
        extension.attach(cimpl.__file__)
    except OSError as error:
        return None, str(error)
    return extension, None


def _run(group: _Group) -> Run:
    block, rows = pa.py_buffer(group.block), group.rows
    parts = [
        block.slice(start, end - start) for start, end in zip(group.starts, group.starts[1:], strict=False)
    ]
    key_nulls, data_nulls, list_nulls, value_nulls = group.nulls
    milliseconds = np.frombuffer(parts[1], np.int64, rows)
    names = pa.Array.from_buffers(pa.string(), group.headers, [None, *parts[10:12]], 0)
    values = _binary(group.headers, parts[12:15], value_nulls)
    each = pa.Array.from_buffers(HEADERS.value_type, group.headers, [None], 0, children=[names, values])
    readable = parts[8] if list_nulls else None
    table = pa.table(
        [
            pa.nulls(rows, pa.string()),
            pa.repeat(pa.scalar(group.topic, pa.string()), rows),
            pa.repeat(pa.scalar(group.partition, pa.int32()), rows),
            pa.Array.from_buffers(pa.int64(), rows, [None, parts[0]], 0),
            times(milliseconds),
            _binary(rows, parts[2:5], key_nulls),
            _binary(rows, parts[5:8], data_nulls),
            pa.Array.from_buffers(HEADERS, rows, [readable, parts[9]], list_nulls, children=[each]),
        ],
        schema=MESSAGE_SCHEMA,
    )
    epoch = group.epoch if group.epoch >= 0 else None
    partition = Partition(group.topic, group.partition)
    return Run(group.first, Fetched(partition, table, group.last + 1, epoch=epoch))


def _binary(rows: int, parts: list[pa.Buffer], nulls: int) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(), rows, [parts[0] if nulls else None, *parts[1:]], nulls)
