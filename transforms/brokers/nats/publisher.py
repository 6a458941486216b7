"""Publishing to NATS JetStream; see :mod:`transforms.brokers.nats`."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from transforms.brokers import Destination, PublishOptions, Undelivered
from transforms.brokers.nats.connection import Connection, parse_url
from transforms.brokers.nats.headers import encode_headers
from transforms.brokers.nats.streams import identity_of, meet, stream_from
from transforms.brokers.nats.wire import Raw
from transforms.errors import ConfigurationError, TransientError
from transforms.model import Trait

__all__ = ["NatsPublisher"]

_IN_FLIGHT = 4096
"""Maximum unconfirmed messages; half of what the server allows a stream."""
_IN_FLIGHT_BYTES = 32 << 20
_WRITE_BYTES = 256 << 10
_SILENCE = 30.0
"""Seconds without any confirmation after which the outcome counts as unknown."""
_LOST = "the connection to NATS was lost; what was sent may or may not be stored"
_WARNING = (
    "Headers that begin with Nats- control the server, so archived ones are sent as Persistor-Nats-…; "
    "Persistor archives them under their own names again."
)
_CARRIES = Trait.HEADERS | Trait.REPEATED_HEADERS | Trait.BINARY_HEADERS


class NatsPublisher:
    """Publishes to one subject; every message is confirmed by its stream before ``commit`` returns.

    Delivery: at least once; once within the duplicate window of the stream, by
    ``Nats-Msg-Id: persistor:<publisher's name>:<id>``. The key is not sent, null data and null
    header values are sent empty.
    """

    left_out: frozenset[str] = frozenset()

    def __init__(self, url: str, config: Mapping[str, str], name: str | None) -> None:
        address = parse_url(url)
        subjects = address.subjects
        if len(subjects) != 1 or {"*", ">"} & set(subjects[0].split(".")):
            raise ConfigurationError(
                f"A NATS destination is one subject without wildcards, not {','.join(subjects)!r}."
            )
        self._subject = subjects[0]
        self._given_name, self._name = name, ""
        self._connection = Connection(address, config)
        self._generation = self._sent = self._bytes = 0
        self._waiting: dict[int, tuple[str, int]] = {}
        self._inbox = ""
        self._answers: list[Raw] = []
        self._undelivered: list[Undelivered] = []

    def destination(self) -> Destination:
        """See :class:`transforms.brokers.Publisher`."""
        limit = int(self._connection.info()["max_payload"])
        found = self._connection.api("STREAM.NAMES", {"subject": self._subject})["streams"]
        if not found:
            problem = (
                f"No JetStream stream takes the subject {self._subject!r}; add it to a stream's subjects."
            )
            return Destination(self._subject, _CARRIES, max_bytes=limit, problems=[problem])
        info = self._connection.api(f"STREAM.INFO.{found[0]}")
        config, state = info["config"], info.get("state", {})
        size = config.get("max_msg_size", -1)
        window = config.get("duplicate_window", 0) / 1e9
        return _Destination(
            self._subject,
            _CARRIES,
            max_bytes=min(limit, size) if size > 0 else limit,
            problems=[f"The stream {found[0]!r} is sealed and takes no message."]
            if config.get("sealed")
            else [],
            warnings=[_WARNING],
            deduplication=f"Nats-Msg-Id: repeats within {window:g} s (the duplicate window) are dropped",
            keeps_bytes=_limit(config, "max_bytes"),
            keeps_messages=_limit(config, "max_msgs", "max_msgs_per_subject"),
            held_bytes=state.get("bytes", 0),
            held_messages=state.get("messages", 0),
            refuses_when_full=config.get("discard") == "new",
            identity=identity_of(self._connection),
            incarnation=stream_from(info).incarnation,
        )

    def begin(self) -> int | None:
        """See :class:`transforms.brokers.Publisher`. NATS stores no progress and fences no older publisher.

        Without a name, earlier messages are no longer known: the same message is sent again.
        """
        self._name = self._given_name or secrets.token_hex(8)
        self._connection.open()
        self._reset()
        self._listen()
        return None

    def send(self, messages: pa.Table, options: PublishOptions) -> None:
        """See :class:`transforms.brokers.Publisher`."""
        self._listen()
        limit = int(self._connection.info()["max_payload"])
        table = messages.combine_chunks()
        ids, headers = (_column(table, name) for name in ("id", "headers"))
        blocks, unfit = encode_headers(ids, headers, options.extra_headers, self._name)
        rows = zip(
            ids.to_pylist(), blocks, _column(table, "data").fill_null(b"").to_pylist(), unfit, strict=True
        )
        commands, size = list[bytes](), 0
        for id, block, data, refused in rows:
            if refused:
                self._undelivered.append(
                    Undelivered(id or "", "NATS headers allow no line break, and names no colon")
                )
            elif len(block) + len(data) > limit:
                self._undelivered.append(
                    Undelivered(id or "", f"larger than the {limit} bytes that NATS accepts")
                )
            else:
                commands.append(self._command(id or "", block, data))
                size += len(commands[-1])
            if size >= _WRITE_BYTES:
                self._write(commands, size)
                commands, size = [], 0
        self._write(commands, size)

    def commit(self, done: int) -> list[Undelivered]:  # noqa: ARG002 - NATS keeps no progress
        """See :class:`transforms.brokers.Publisher`."""
        self._await(0, 0)
        undelivered = self._undelivered
        self._undelivered = []
        return undelivered

    def finish(self) -> None:
        """Does nothing: the stream forgets the ids by itself."""

    def close(self) -> None:
        """See :class:`transforms.brokers.Publisher`."""
        self._connection.close()

    def _reset(self) -> None:
        # Numbers are never reused: a late answer must not confirm a later message.
        self._waiting = {}
        self._bytes = 0
        self._undelivered = []

    def _listen(self) -> None:
        """Subscribe to an inbox for confirmations in this generation of the connection."""
        if self._connection.alive and self._generation == self._connection.generation:
            return
        if self._waiting or self._undelivered:
            self._reset()
            raise TransientError(_LOST)
        self._inbox = self._connection.inbox()
        self._answers, _ = self._connection.listen(f"{self._inbox}.*")
        self._generation = self._connection.generation

    def _command(self, id: str, block: bytes, data: bytes) -> bytes:
        self._sent += 1
        size = len(block) + len(data)
        self._waiting[self._sent] = (id, size)
        self._bytes += size
        if block:
            head = f"HPUB {self._subject} {self._inbox}.{self._sent} {len(block)} {size}\r\n"
        else:
            head = f"PUB {self._subject} {self._inbox}.{self._sent} {size}\r\n"
        return b"".join((head.encode(), block, data, b"\r\n"))

    def _write(self, commands: list[bytes], size: int) -> None:
        if commands:
            self._await(_IN_FLIGHT + len(commands), _IN_FLIGHT_BYTES + size)
            self._connection.send(b"".join(commands))

    def _await(self, count: int, size: int) -> None:
        """Take confirmations until at most ``count`` messages and ``size`` bytes are unconfirmed."""
        heard = time.monotonic()
        while True:
            self._connection.arrived.clear()
            if self._take():
                heard = time.monotonic()
            if len(self._waiting) <= count and self._bytes <= size:
                return
            if not self._connection.alive or time.monotonic() - heard > _SILENCE:
                self._reset()
                raise TransientError(_LOST)
            self._connection.check()
            self._connection.arrived.wait(0.1)

    def _take(self) -> int:
        answers = self._answers[:]
        del self._answers[: len(answers)]
        for subject, _, _, data in answers:
            sent = self._waiting.pop(int(subject.rpartition(b".")[2]), None)
            self._bytes -= sent[1] if sent else 0
            if sent and not data.startswith(b'{"stream"'):
                self._refused(sent[0], data)
        return len(answers)

    def _refused(self, id: str, answer: bytes) -> None:
        """Handle an answer that is not a confirmation; an empty one means that no stream listens."""
        error = json.loads(answer or b'{"error": {"code": 503, "description": "no stream takes it"}}').get(
            "error"
        )
        if error is None:
            return
        reason = str(error.get("description", "refused"))
        if error.get("code", 0) >= 429:
            self._reset()
            raise TransientError(f"NATS does not store what is published to {self._subject!r}: {reason}")
        self._undelivered.append(Undelivered(id, reason))


class _Destination(Destination):
    def may_be(self, source: str) -> bool:
        """Whether a source's name ends with a filter that takes this subject."""
        # What may be a prefix is no wildcard: behind it almost any filter would do.
        starts = [0, *(n for n, letter in enumerate(source) if n and letter not in "*>.")]
        return any(meet(source[start:], self.topic) is not None for start in starts)


def _limit(config: Mapping[str, Any], *names: str) -> int | None:
    return min((config[name] for name in names if config.get(name, -1) > 0), default=None)


def _column(table: pa.Table, name: str) -> pa.Array:
    chunks = table[name].chunks
    return chunks[0] if chunks else pa.array([], table.schema.field(name).type)
