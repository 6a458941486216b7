"""The data model: schemas of messages and index entries, and the elements between transforms."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import pyarrow as pa

from transforms.discovery import Found
from transforms.settings import setting
from transforms.settings.kinds import Kind

__all__ = [
    "ENTRY_SCHEMA",
    "FILE_SCHEMA",
    "HEADERS",
    "LATEST_US",
    "MESSAGE_SCHEMA",
    "UTC_MICROSECONDS",
    "Batch",
    "DeadLetter",
    "Layout",
    "Trait",
    "WrittenFile",
]

UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
HEADERS = pa.list_(pa.struct([pa.field("name", pa.string(), nullable=False), ("value", pa.binary())]))

MESSAGE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("publish_time", UTC_MICROSECONDS),
        pa.field("key", pa.binary()),
        pa.field("data", pa.binary()),
        pa.field("headers", HEADERS, nullable=False),
    ]
)
"""One row per message, as delivered: null differs from empty, header order and repeats are kept.

``id`` is ``<source>_<partition>_<offset>`` (``<source>~<n>_…`` from the topic's second
incarnation on), ``<source>_<broker's message id>`` if a broker has no offsets.
"""

FILE_SCHEMA = MESSAGE_SCHEMA.append(pa.field("checksum", pa.int64()))
"""The content of a lake file. ``checksum`` is null only in files that Persistor did not write."""

ENTRY_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("incarnation", pa.int32(), nullable=False),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("publish_time", UTC_MICROSECONDS),
        pa.field("ingestion_time", UTC_MICROSECONDS, nullable=False),
        pa.field("key", pa.binary()),
        pa.field("attributes", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("traits", pa.int32(), nullable=False),
        pa.field("checksum", pa.int64()),
        pa.field("location", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
    ]
)
"""One row per indexed message.

``attributes`` are the headers that are valid UTF-8, with the last value of each name, for searching only.
``size`` is bytes of key, data, header names and values. ``traits`` is a :class:`Trait` set.
``location`` is the file's URL, ``position`` the row in it, from 0.
"""


LATEST_US = ((1 << 63) - 1) // 1000 * 1000
"""The latest publish time, µs since 1970; what a broker gives behind it is kept as this one."""


class Trait(enum.IntFlag):
    """Features that a message needs from a destination; a destination states which it ``carries``."""

    NULL_DATA = 1
    KEY = 2
    HEADERS = 4
    REPEATED_HEADERS = 8
    BINARY_HEADERS = 16
    NULL_HEADERS = 32
    BINARY_KEY = 64
    EMPTY_KEY = 128


@dataclass(frozen=True)
class Layout:
    """How files are laid out.

    Attributes:
        path: the path template.
        format: the name of the format.
        naming: 2, or 1 for ranges that the first release has claimed: their names may begin with
            ``_`` or ``.``, which many readers of lakes do not list.
    """

    path: str = setting(
        Kind("TEMPLATE", str),
        "lake",
        "directory of a message's file; fields are {topic} {partition} {date} {hour} {minute} {key} "
        "{header[NAME]}, times are the publish time in UTC",
        default="{topic}/date={date}/hour={hour}",
    )
    format: str = setting(
        Kind("NAME", str),
        "lake",
        "format of the files",
        default="parquet",
        choices=Found("transforms.formats"),
    )
    naming: int = 2


@dataclass(frozen=True)
class Batch:
    """Messages of one partition, claimed but not yet written.

    Attributes:
        source: the source's name: the configured prefix and its topic.
        incarnation: 1, plus one each time the topic was re-created.
        partition: the partition's number, None if the broker has none.
        messages: a ``FILE_SCHEMA`` table: ``id`` and ``checksum`` are filled.
        name: stem of the file names, the same on every attempt at this range.
        layout: the layout in the claim of the range.
        close_reason: ``count``, ``bytes``, ``age``, ``claim``, ``gap``, ``skip`` or ``drain``.
        elsewhere: directories of messages that were in the range when it was claimed but are gone from
            the broker; an earlier attempt may have left files there.
        claimed: rows of the range when another attempt claimed it, 0 if this one did.
        given_up: why the messages are dead letters; None if they are to be written.
        lost: stands for messages of the range that nobody can read, which are given up.
    """

    source: str
    incarnation: int
    partition: int | None
    messages: pa.Table
    name: str
    layout: Layout
    close_reason: str
    elsewhere: tuple[str, ...] = ()
    claimed: int = 0
    given_up: str | None = None
    lost: DeadLetter | None = None


@dataclass(frozen=True)
class WrittenFile:
    """One durable file.

    Attributes:
        location: its URL.
        source: the source of its messages.
        bytes: of the file.
        messages: how many it holds.
        size: bytes of their keys, data and headers.
        entries: of its rows (``ENTRY_SCHEMA``); empty if not requested.
    """

    location: str
    source: str
    bytes: int
    messages: int
    size: int
    entries: pa.Table


@dataclass(frozen=True)
class DeadLetter:
    """Messages (``FILE_SCHEMA``) that cannot be archived or indexed, and why.

    Attributes:
        stage: ``read``, ``write`` or ``index``.
        category: ``permanent``, ``gave_up``, or ``lost`` where a letter without data stands for messages
            that could not be read.
        reason: one sentence, without any payload.
    """

    source: str
    stage: str
    category: str
    reason: str
    messages: pa.Table = field(repr=False)
