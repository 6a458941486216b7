"""Records as no client of Kafka's would make them, sent in the protocol itself."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import google_crc32c

from tests.servers.kafka import Kafka

__all__ = ["Record", "produce_batch", "produce_raw"]

Header = tuple[bytes, bytes | None]


@dataclass(frozen=True)
class Record:
    """A record of a batch; header names may be any bytes, times any number of 64 bits."""

    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[Header] = ()
    time_ms: int = 0


def produce_raw(kafka: Kafka, topic: str, value: bytes, headers: Sequence[Header], time_ms: int) -> None:
    """Publish one message to partition 0."""
    produce_batch(kafka, topic, [Record(None, value, headers, time_ms)])


def produce_batch(kafka: Kafka, topic: str, records: Sequence[Record], partition: int = 0) -> None:
    """Publish messages as one batch."""
    stored = _batch(records)
    body = _short(-1) + struct.pack(">hii", -1, 10_000, 1) + _text(topic)
    body += struct.pack(">iii", 1, partition, len(stored)) + stored
    request = struct.pack(">hhi", 0, 3, 1) + _text("tests") + body
    with (
        socket.create_connection(("127.0.0.1", kafka.port), 10) as connection,
        connection.makefile("rb") as answers,
    ):
        connection.sendall(struct.pack(">i", len(request)) + request)
        [size] = struct.unpack(">i", answers.read(4))
        answer = answers.read(size)
    [error] = struct.unpack_from(">h", answer, 4 + 4 + 2 + len(topic) + 4 + 4)
    assert error == 0, f"Kafka answers {error}"


def _batch(records: Sequence[Record]) -> bytes:
    first, last = records[0].time_ms, max(record.time_ms for record in records)
    packed = b"".join(_record(record, number, first) for number, record in enumerate(records))
    count = len(records)
    checked = struct.pack(">hiqqqhii", 0, count - 1, first, last, -1, -1, -1, count) + packed
    body = struct.pack(">ibI", -1, 2, google_crc32c.value(checked)) + checked
    return struct.pack(">qi", 0, len(body)) + body


def _record(record: Record, number: int, first: int) -> bytes:
    listed = b"".join(_bytes(name) + _bytes(given) for name, given in record.headers)
    packed = b"\0" + _varint(record.time_ms - first) + _varint(number) + _bytes(record.key)
    packed += _bytes(record.value) + _varint(len(record.headers)) + listed
    return _varint(len(packed)) + packed


def _short(number: int) -> bytes:
    return struct.pack(">h", number)


def _text(text: str) -> bytes:
    return _short(len(text)) + text.encode()


def _bytes(value: bytes | None) -> bytes:
    return _varint(-1) if value is None else _varint(len(value)) + value


def _varint(number: int) -> bytes:
    zigzag, out = (number << 1) ^ (number >> 63), bytearray()
    while zigzag > 127:
        out.append(zigzag & 127 | 128)
        zigzag >>= 7
    return bytes([*out, zigzag])
