"""Shared by reader and publisher: URLs, librdkafka's configuration, and its errors as ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from transforms.brokers import FencedError
from transforms.errors import ConfigurationError, TransientError
from transforms.secrets import resolve_all

__all__ = [
    "REFUSED",
    "TIMEOUT",
    "Client",
    "GoneError",
    "client_config",
    "configured",
    "only_for_clients",
    "split_url",
]

TIMEOUT = 10.0
"""Timeout of a request to the cluster, in seconds."""

_DEFAULTS = {"client.id": "persistor", "topic.metadata.refresh.interval.ms": 10_000}
_CONSUMER_ONLY = ("group.", "enable.auto", "enable.partition", "auto.", "isolation.", "fetch.", "queued.")
_PRODUCER_ONLY = (
    "enable.idempotence",
    "transactional.",
    "partitioner",
    "linger.",
    "queue.buffering",
    "delivery.",
)
REFUSED = {
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - librdkafka's name for a local error
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
"""Errors with which a broker refuses this user."""
_FENCED = {
    KafkaError._FENCED,  # noqa: SLF001 - librdkafka's name for a local error
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
}
_TELLING = {KafkaError._SSL, KafkaError._RESOLVE}  # noqa: SLF001
"""Causes of a missing connection; a call itself reports only that there is none."""
_TOO_LONG = (
    "kafka: the brokers allow no transaction as long as transaction.timeout.ms: set it to their "
    "transaction.max.timeout.ms at most, and delivery.timeout.ms below it."
)
_GONE = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND}
_T = TypeVar("_T")
_Pollable = TypeVar("_Pollable", AdminClient, Producer)
# Our own retries report connection failures once, so librdkafka's log is dropped.
_log = logging.getLogger("transforms.brokers.kafka.librdkafka")
_log.setLevel(logging.CRITICAL + 1)


class GoneError(TransientError):
    """The topic or group does not exist (any longer, or yet)."""


class Client:
    """Calls librdkafka and turns its errors into :mod:`transforms.errors`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        # librdkafka has no user in an address; if one was given, it is not shown.
        self._servers = _without_login(str(settings["bootstrap.servers"]))
        self._refusal: KafkaError | None = None
        self._detail = ""
        self._polled: list[AdminClient | Producer] = []

    def note_error(self, error: KafkaError) -> None:
        """Remember the errors that librdkafka reports to its ``error_cb``: refusals, TLS, unknown names."""
        if error.code() in REFUSED:
            self._refusal = error
        elif error.code() in _TELLING:
            self._detail = f" ({_without_login(error.str())})"

    def ask(self, call: Callable[[], _T]) -> _T:
        """Call. A refusal reported during a successful call is raised by the next one: no result is lost.

        Raises:
            ConfigurationError: the broker refuses this user.
            GoneError: a topic does not exist.
            FencedError: a newer publisher of the same name has begun, or a transaction was open too long.
            TransientError: anything else that librdkafka reports.
        """
        self._raise_refusal()
        try:
            return call()
        except KafkaException as exception:
            self._hear()
            failure = self._translated(exception.args[0])
            self._raise_refusal()
            raise failure from exception

    def hears(self, client: _Pollable) -> _Pollable:
        """Poll this librdkafka client for the cause when a call has failed."""
        self._polled.append(client)
        return client

    def _hear(self) -> None:
        # For the call, a refused login is a timeout; librdkafka reports the cause only to callbacks.
        for client in self._polled:
            client.poll(0)

    def _translated(self, error: KafkaError) -> Exception:
        if error.code() in _GONE:
            return GoneError(f"kafka: {error.str()}")
        if error.code() in _FENCED:
            return FencedError(f"kafka: {error.str()}")
        if error.code() == KafkaError.INVALID_TRANSACTION_TIMEOUT:
            return ConfigurationError(_TOO_LONG)
        self.note_error(error)
        detail, self._detail = self._detail, ""
        return TransientError(f"kafka at {self._servers}: {error.str()}{detail}")

    def _raise_refusal(self) -> None:
        if self._refusal is not None:
            refusal, self._refusal = self._refusal, None
            raise ConfigurationError(f"kafka: the broker refuses access: {refusal.str()}.")


def _without_login(text: str) -> str:
    return re.sub(r"[^,'@]*@", "", text)


def split_url(url: str) -> tuple[str, list[str]]:
    """Bootstrap servers and topics of a ``kafka://`` URL with resolved references."""
    servers, _, path = url.removeprefix("kafka://").partition("/")
    topics = [topic for topic in path.split(",") if topic]
    if not servers or not topics:
        raise ConfigurationError(f"{url!r}: write kafka://HOST:PORT/TOPIC[,TOPIC…].")
    return servers, topics


def client_config(
    servers: str, config: Mapping[str, str], defaults: Mapping[str, Any], ours: Mapping[str, Any]
) -> dict[str, Any]:
    """Properties for librdkafka: the user's override the defaults, but never ``ours``."""
    clashes = sorted(set(config) & set(ours))
    if clashes:
        raise ConfigurationError([f"kafka: {name} is set by Persistor; remove it." for name in clashes])
    return {
        **_DEFAULTS,
        "bootstrap.servers": servers,
        **defaults,
        **resolve_all(config),
        **ours,
        "logger": _log,
    }


def only_for_clients(config: Mapping[str, Any]) -> dict[str, Any]:
    """The properties without those that an admin client would warn about."""
    return {name: v for name, v in config.items() if not name.startswith(_CONSUMER_ONLY + _PRODUCER_ONLY)}


def configured(make: Callable[[], _T]) -> _T:
    """Make a client.

    Raises:
        ConfigurationError: a property or value is unknown to librdkafka.
    """
    try:
        return make()
    except (KafkaException, ValueError, TypeError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else error
        raise ConfigurationError(f"kafka: {reason}.") from error
