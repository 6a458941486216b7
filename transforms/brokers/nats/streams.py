"""JetStream requests of the reader: streams of subjects, and the durable consumer with the progress."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from typing import Any

from transforms.brokers.nats.connection import ApiError, Connection
from transforms.errors import ConfigurationError, TransientError

__all__ = [
    "Stream",
    "create_consumer",
    "created",
    "durable_floor",
    "identity_of",
    "meet",
    "move_floor",
    "restart_durable",
    "streams_of",
]

_RESET_SINCE = (2, 14)
_SIX_HOURS = 6 * 3600 * 10**9


@dataclass(frozen=True)
class Stream:
    """The relevant facts of a stream: ``retention`` is ``limits``, ``interest`` or ``workqueue``."""

    name: str
    created: str
    retention: str
    subjects: tuple[str, ...] = ()

    @property
    def incarnation(self) -> str:
        """Changes when the stream is deleted and created again."""
        return f"{self.name}@{self.created}"

    def durable(self, group: str, subject: str) -> str:
        """The name of the durable consumer; another incarnation has another one.

        A late acknowledgement for a deleted stream therefore never affects its successor.
        """
        readable = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{group}-{subject}")[:80]
        return f"{readable}-{zlib.crc32(f'{group} {subject} {self.created}'.encode()):08x}"


def meet(one: str, other: str) -> str | None:
    """The subjects that both patterns match, as a pattern; None if there is none."""
    met, ones, others = list[str](), one.split("."), other.split(".")
    for at in range(max(len(ones), len(others))):
        if at >= len(ones) or at >= len(others):
            return None
        if ones[at] == ">":
            return ".".join(met + others[at:])
        if others[at] == ">":
            return ".".join(met + ones[at:])
        if ones[at] != others[at] and "*" not in (ones[at], others[at]):
            return None
        met.append(others[at] if ones[at] == "*" else ones[at])
    return ".".join(met)


def streams_of(connection: Connection, subject: str) -> tuple[list[Stream], set[str]]:
    """The streams that store any of a pattern's subjects, and the names of those that do not answer."""
    streams, missing = list[Stream](), set[str]()
    seen, total = 0, 1
    while seen < total:
        page = ask(connection, "STREAM.LIST", {"subject": subject, "offset": seen})
        streams += map(stream_from, page.get("streams") or [])
        missing.update(page.get("missing") or [])
        total = page.get("total", 0)
        seen += max(page.get("limit", 0), 1)
    return streams, missing


def stream_from(info: dict[str, Any]) -> Stream:
    """A stream from JetStream's description."""
    config = info["config"]
    return Stream(config["name"], info["created"], config["retention"], tuple(config.get("subjects") or ()))


def created(connection: Connection, name: str) -> str | None:
    """When a stream was created; None where there is none."""
    try:
        return str(ask(connection, f"STREAM.INFO.{name}")["created"])
    except ApiError:
        return None


def ask(connection: Connection, operation: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Like ``Connection.api``, but only 404 is an ``ApiError``; 5xx is transient, others are user errors."""
    try:
        return connection.api(operation, body)
    except ApiError as error:
        if error.code == 404:
            raise
        if error.code >= 500:
            raise TransientError(f"JetStream cannot do {operation} now: {error}") from error
        raise ConfigurationError(f"JetStream refuses {operation}: {error}.") from error


def durable_floor(connection: Connection, stream: Stream, durable: str) -> int | None:
    """The last sequence up to which the durable consumer knows everything as done."""
    try:
        info = ask(connection, f"CONSUMER.INFO.{stream.name}.{durable}")
    except ApiError:
        return None
    # A consumer that has delivered nothing may not show its start.
    return max(int(info["ack_floor"]["stream_seq"]), int(info["config"].get("opt_start_seq", 1)) - 1)


def create_consumer(connection: Connection, stream: Stream, config: dict[str, Any]) -> dict[str, Any]:
    """Create a consumer, or find an existing one with this configuration."""
    body = {"stream_name": stream.name, "config": config}
    return ask(connection, f"CONSUMER.CREATE.{stream.name}.{config['name']}", body)


def _durable(stream: Stream, durable: str, subject: str) -> dict[str, Any]:
    """Work queues need an acknowledgement per message; nothing is redelivered by timeout."""
    return {
        "name": durable,
        "durable_name": durable,
        "description": "messages that Persistor has archived",
        "deliver_policy": "all",
        "ack_policy": "explicit" if stream.retention == "workqueue" else "all",
        "ack_wait": _SIX_HOURS,
        "max_ack_pending": -1,
        "filter_subject": subject,
    }


def ensure_durable(connection: Connection, stream: Stream, durable: str, subject: str) -> None:
    """Make sure that the durable consumer exists; on an interest stream it keeps messages for us."""
    if stream.retention == "interest" and not _resets(connection):
        raise ConfigurationError(
            f"The stream {stream.name!r} has interest retention, which needs nats-server 2.14 or newer."
        )
    if durable_floor(connection, stream, durable) is None:
        create_consumer(connection, stream, _durable(stream, durable, subject))


def restart_durable(connection: Connection, stream: Stream, durable: str, subject: str) -> dict[str, Any]:
    """Have all remaining messages of a work queue delivered again, in order."""
    if _resets(connection):
        return ask(connection, f"CONSUMER.RESET.{stream.name}.{durable}", {"seq": 1})
    # A work queue keeps unacknowledged messages, even without a consumer.
    delete_consumer(connection, stream, durable)
    return create_consumer(connection, stream, _durable(stream, durable, subject))


def move_floor(connection: Connection, stream: Stream, subject: str, durable: str, position: int) -> None:
    """Mark everything below ``position`` as done, never backwards. For limits and interest retention."""
    floor = durable_floor(connection, stream, durable)
    if floor is None or floor >= position - 1:
        return
    if _resets(connection):
        ask(connection, f"CONSUMER.RESET.{stream.name}.{durable}", {"seq": position})
        return
    # Before 2.14 only a new consumer can begin elsewhere; limits retention does not need it meanwhile.
    delete_consumer(connection, stream, durable)
    config = _durable(stream, durable, subject)
    config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": position}
    create_consumer(connection, stream, config)


def delete_consumer(connection: Connection, stream: Stream, name: str) -> None:
    """Delete a consumer, which may already be gone."""
    try:
        ask(connection, f"CONSUMER.DELETE.{stream.name}.{name}")
    except ApiError:
        return


def _resets(connection: Connection) -> bool:
    found = re.match(r"(\d+)\.(\d+)", str(connection.info().get("version", "")))
    return bool(found) and (int(found[1]), int(found[2])) >= _RESET_SINCE  # type: ignore[index]


def identity_of(connection: Connection) -> str:
    """Account and JetStream domain; a server's or cluster's own name may change, so it is left out."""
    answer = json.loads(connection.request("$SYS.REQ.USER.INFO"))
    account = answer.get("data", {}).get("account", "")
    return f"nats:{connection.info().get('domain', '')}:{account}"
