"""Records as no client of Kafka's would make them, sent in the protocol itself."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

import google_crc32c

from tests.servers.kafka import Kafka

__all__ = ["produce_raw"]

Header = tuple[bytes, bytes | None]


def produce_raw(kafka: Kafka, topic: str, value: bytes, headers: Sequence[Header], time_ms: int) -> None:
    """Publish one message to partition 0; header names may be any bytes."""
    records = _batch(value, headers, time_ms)
    body = _short(-1) + struct.pack(">hii", -1, 10_000, 1) + _text(topic)
    body += struct.pack(">iii", 1, 0, len(records)) + records
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


def _batch(value: bytes, headers: Sequence[Header], time_ms: int) -> bytes:
    listed = b"".join(_bytes(name) + _bytes(given) for name, given in headers)
    record = b"\0" + _varint(0) + _varint(0) + _bytes(None) + _bytes(value) + _varint(len(headers)) + listed
    record = _varint(len(record)) + record
    checked = struct.pack(">hiqqqhii", 0, 0, time_ms, time_ms, -1, -1, -1, 1) + record
    body = struct.pack(">ibI", -1, 2, google_crc32c.value(checked)) + checked
    return struct.pack(">qi", 0, len(body)) + body


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
