"""Reads one subject filter of one stream, in order and without losing messages."""

from __future__ import annotations

import contextlib
import json
import math
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.brokers.nats.connection import ApiError, Connection
from transforms.brokers.nats.headers import decode_headers, text
from transforms.brokers.nats.streams import (
    Stream,
    ask,
    create_consumer,
    delete_consumer,
    ensure_durable,
    restart_durable,
    stream_from,
)
from transforms.brokers.nats.wire import Raw
from transforms.errors import PersistorError, TransientError
from transforms.model import MESSAGE_SCHEMA

__all__ = ["Lane"]

_BATCH = 10_000
_EXPIRES = 10.0
_PATIENCE = 5.0
_UNUSED = 120 * 10**9
_ABSENT = 5.0
_SETTLES = 3.0
"""Seconds after which a newly elected leader shows all confirmed messages."""
_DONE = (b"404", b"408")
_INTS = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class _Acks:
    """Parsed reply subjects of messages: ``$JS.ACK.….<sequence>.<delivery>.<ns>.<pending>``."""

    sequence: _INTS
    delivery: _INTS
    nanoseconds: _INTS
    pending: int


class Lane:
    """One partition: an ephemeral consumer from the position on; for work queues the durable itself.

    A consumer numbers what it delivers. A missing number means that a message was lost on the way or
    taken by another reader: the lane then drops what followed and opens again.

    Attributes:
        given: the position that the caller knows of.
        gap: where reading goes on behind messages that retention removed, until it is assigned; before
            ``given`` where the stream has lost what was given.
        pending: messages behind the last one taken.
        refusals: what the server said instead of messages, since somebody looked.
    """

    def __init__(
        self,
        connection: Connection,
        stream: Stream,
        subject: str,
        durable: str,
        position: int,
        *,
        wanted: Callable[[pa.Table], pa.Table],
    ) -> None:
        self.stream = stream
        self.given = position
        self.gap: int | None = None
        self.pending = 0
        self._connection = connection
        self._subject = subject
        self._durable = durable
        self._wanted = wanted
        self._next = position
        self._held: pa.Table | None = None
        self._generation = 0
        self._retry_at = 0.0
        self._short_since = math.inf
        self._received: list[Raw] = []
        self._outstanding = 0
        self._sid = b""
        self._unacknowledged: deque[tuple[_INTS, list[bytes]]] = deque()
        self.refusals: list[str] = []

    @property
    def lag(self) -> int:
        """Known messages that are not yet returned."""
        return max(self.pending, len(self._received)) + (len(self._held) if self._held is not None else 0)

    @property
    def asks(self) -> bool:
        """Whether messages behind the last one taken are on their way."""
        return self._outstanding > 0 and self.pending > 0

    @property
    def is_queue(self) -> bool:
        """Whether acknowledged messages are removed one consumer at a time."""
        return self.stream.retention == "workqueue"

    def take(self) -> pa.Table | None:
        """Messages that have arrived.

        Raises:
            TransientError: the broker does not answer.
        """
        if self.gap is not None or (self._held is None and not self._is_open()):
            return None
        table, self._held = self._held, None
        if table is None:
            received = self._arrived()
            table = self._messages(received) if received else None
        if table is None or not len(table):
            return None
        self.given = int(table["offset"][-1].as_py()) + 1
        return table

    def unacknowledged(self, position: int) -> list[bytes]:
        """The reply subjects that acknowledge what a work queue has delivered below a position."""
        replies: list[bytes] = []
        for sequence, chunk in self._unacknowledged:
            replies += chunk[: int(np.searchsorted(sequence, position))]
        return replies

    def forget(self, position: int) -> None:
        """Record that everything below a position is acknowledged."""
        chunks = self._unacknowledged
        while chunks and (below := int(np.searchsorted(chunks[0][0], position))):
            sequence, replies = chunks.popleft()
            if below < len(sequence):
                chunks.appendleft((sequence[below:], replies[below:]))
                break

    def resume(self, position: int) -> bool:
        """Continue at a position if the lane is already there; otherwise False."""
        if position != (self.given if self.gap is None else self.gap):
            return False
        self.given, self.gap = position, None
        return True

    def close(self) -> None:
        """Stop deliveries. The durable consumer stays."""
        sid, self._sid = self._sid, b""
        if not sid or not self._stands():
            return
        # If that fails, the connection is lost, and an unused consumer ends by itself.
        with contextlib.suppress(TransientError):
            self._connection.unlisten(sid)
            if not self.is_queue:
                delete_consumer(self._connection, self.stream, self._consumer)

    def _stands(self) -> bool:
        return self._connection.alive and self._generation == self._connection.generation

    def _is_open(self) -> bool:
        if self._sid and self._stands():
            return True
        if time.monotonic() < self._retry_at:
            return False
        try:
            return self._open()
        except ApiError:
            # The stream is gone; the next discovery finds out more.
            self._retry_at = time.monotonic() + _ABSENT
            return False
        except TransientError:
            # Without a leader it answers only after a timeout, and other lanes would wait for that.
            self._retry_at = time.monotonic() + _ABSENT
            raise

    def _open(self) -> bool:
        info = ask(self._connection, f"STREAM.INFO.{self.stream.name}")
        if stream_from(info).created != self.stream.created:
            self._retry_at = time.monotonic() + _ABSENT
            return False
        if self._is_elsewhere(info["state"]):
            return False
        ensure_durable(self._connection, self.stream, self._durable, self._subject)
        consumer = self._start_consumer(self._next)
        self._consumer = str(consumer["name"])
        self._inbox = self._connection.inbox()
        self._received, self._sid = self._connection.listen(f"{self._inbox}.*")
        self._generation = self._connection.generation
        self.pending = int(consumer["num_pending"])
        self._delivered = self._outstanding = 0
        self._unacknowledged.clear()
        self._heard = time.monotonic()
        return True

    def _is_elsewhere(self, state: dict[str, Any]) -> bool:
        """Whether the stream begins after the position, or ends before it."""
        first, end = max(state["first_seq"], 1), state["last_seq"] + 1
        if self.stream.retention == "limits" and first > self._next:
            self._next = self.gap = first
            return True
        if end >= self.given:
            self._next, self._short_since = min(self._next, end), math.inf
            return False
        now = time.monotonic()
        self._short_since = min(self._short_since, now)
        if now < self._short_since + _SETTLES:
            self._retry_at = now + _SETTLES / 4
        else:
            self.gap = end
        return True

    def _start_consumer(self, position: int) -> dict[str, Any]:
        if self.is_queue:
            return restart_durable(self._connection, self.stream, self._durable, self._subject)
        config = {
            "name": f"{self._durable[:100]}-reader-{secrets.token_hex(4)}",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": max(position, 1),
            "ack_policy": "none",
            "mem_storage": True,
            "inactive_threshold": _UNUSED,
            "filter_subject": self._subject,
        }
        return create_consumer(self._connection, self.stream, config)

    def _lose(self) -> None:
        self.close()
        self._received, self._outstanding = [], 0

    def _arrived(self) -> list[Raw]:
        """Messages delivered since the last call, without status replies."""
        received = self._received[:]
        del self._received[: len(received)]
        if received:
            self._heard = time.monotonic()
        messages = [raw for raw in received if raw[1].startswith(b"$JS.ACK.")]
        self._outstanding -= len(messages)
        if len(messages) < len(received):
            for raw in received:
                if not raw[1].startswith(b"$JS.ACK."):
                    self._status(raw[2])
        elif not received and self._outstanding > 0 and time.monotonic() > self._heard + _EXPIRES + _PATIENCE:
            self._lose()
        return messages

    def _status(self, header: bytes) -> None:
        """Handle a request for messages that ended before it was filled."""
        unfilled = re.search(rb"Nats-Pending-Messages: (\d+)", header)
        self._outstanding -= int(unfilled[1]) if unfilled else 0
        if (
            header[9:12] not in _DONE
            and b"Exceeds MaxBytes" not in header
            and b"Batch Completed" not in header
        ):
            self.refusals.append(header[9:].partition(b"\r\n")[0].decode(errors="replace").strip())
            self._lose()

    def ask_for_more(self, window: int) -> None:
        """Have at most ``window`` more bytes sent, unless enough is on its way."""
        if self.gap is not None or not self._sid or not self._stands() or self._outstanding >= _BATCH // 2:
            return
        body = {"batch": _BATCH, "max_bytes": window, "expires": int(_EXPIRES * 1e9)}
        self._connection.publish(
            self._connection.api_subject(f"CONSUMER.MSG.NEXT.{self.stream.name}.{self._consumer}"),
            f"{self._inbox}.1",
            json.dumps(body).encode(),
        )
        self._outstanding = max(self._outstanding, 0) + _BATCH
        self._heard = time.monotonic()

    def _messages(self, received: list[Raw]) -> pa.Table:
        """Messages that were not returned before; moves the position after them."""
        subjects, replies, headers, data = zip(*received, strict=True)
        acks = _read_acks(replies)
        expected = np.arange(self._delivered + 1, self._delivered + 1 + len(replies))
        whole = int(np.argmin(np.append(acks.delivery == expected, False)))
        if whole < len(replies):
            self._lose()
        self._delivered += whole
        self.pending = acks.pending
        if self.is_queue:
            self._unacknowledged.append((acks.sequence[:whole], list(replies[:whole])))
        table = _table(subjects, acks, headers, data).slice(0, whole)
        table = table.filter(pc.greater_equal(table["offset"], self._next))
        return self._advance(table) if len(table) else table

    def _advance(self, table: pa.Table) -> pa.Table:
        """Hold back messages after a gap of messages that retention removed unread."""
        offsets = table["offset"].to_numpy()
        before = np.concatenate(([self._next - 1], offsets[:-1]))
        holes = np.flatnonzero(offsets - before > 1)
        at = int(holes[0]) if len(holes) else 0
        if len(holes) and self._is_removed(int(before[at]) + 1):
            self._held, self.gap = self._wanted(table.slice(at)), int(offsets[at])
            table = table.slice(0, at)
        self._next = int(offsets[-1]) + 1
        return self._wanted(table)

    def _is_removed(self, position: int) -> bool:
        """Whether retention has passed a position; other policies remove only acknowledged messages."""
        if self.stream.retention != "limits":
            return False
        try:
            state = ask(self._connection, f"STREAM.INFO.{self.stream.name}")["state"]
        except ApiError as error:
            self._lose()
            raise TransientError(f"the stream {self.stream.name!r} is gone") from error
        except PersistorError:
            self._lose()
            raise
        return bool(state["first_seq"] > position)


def _read_acks(replies: tuple[bytes, ...]) -> _Acks:
    parts = pc.split_pattern(pa.array(replies, pa.binary()).cast(pa.string()), ".")
    words, width = parts.flatten(), len(parts[0])
    # With domain and account there are two more words in front, and one at the end.
    first = 5 if width == 9 else 7
    columns = [
        words.take(pa.array(np.arange(first + column, len(words), width))).cast(pa.int64()).to_numpy()
        for column in range(4)
    ]
    return _Acks(columns[0], columns[1], columns[2], int(columns[3][-1]))


def _table(
    subjects: tuple[bytes, ...], acks: _Acks, headers: tuple[bytes, ...], data: tuple[bytes, ...]
) -> pa.Table:
    count = len(subjects)
    columns = [
        pa.nulls(count, pa.string()),
        text(pa.array(subjects, pa.binary())),
        pa.array(np.zeros(count, np.int32)),
        pa.array(acks.sequence),
        pa.array(acks.nanoseconds // 1000).cast(MESSAGE_SCHEMA.field("publish_time").type),
        pa.nulls(count, pa.binary()),
        pa.array(data, pa.binary()),
        decode_headers(headers),
    ]
    return pa.Table.from_arrays(columns, schema=MESSAGE_SCHEMA)
