"""Publishing to Google Pub/Sub; see :mod:`transforms.brokers.pubsub`.

``PublisherClient.publish`` of the library makes a future per message and takes attributes as keyword
arguments, so attributes named ``topic`` or ``data`` are errors. Requests are therefore made here with the
generated client below it, one ordering key per request as the service requires.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pyarrow as pa
from google.api_core import exceptions
from google.api_core.retry import Retry, if_exception_type
from google.cloud import pubsub_v1
from google.pubsub_v1 import PublisherClient as Generated
from google.pubsub_v1.types import PublishRequest, PubsubMessage

from transforms.brokers import Destination, PublishOptions, Undelivered
from transforms.brokers.pubsub.client import calling, client_options, parse_url
from transforms.errors import ConfigurationError, PersistorError
from transforms.model import Trait

__all__ = ["PubsubPublisher"]

_MESSAGE_BYTES = 10_000_000
_REQUEST_BYTES = 5_000_000
_REQUEST_MESSAGES = 1000
_AT_ONCE = 8
_ATTRIBUTES, _NAME_BYTES, _VALUE_BYTES, _KEY_BYTES = 100, 256, 1024, 1024
_RETRY = Retry(
    predicate=if_exception_type(exceptions.ServerError, exceptions.TooManyRequests, exceptions.Aborted),
    initial=0.1,
    timeout=60.0,
)
_Message = tuple[str, str, int, PubsubMessage]
"""Id, ordering key, bytes, and the message to send."""


class PubsubPublisher:
    """Publishes to one topic; each request is confirmed before :meth:`send` returns.

    Delivery: at least once; messages of one key in order, others in any.
    """

    left_out: frozenset[str] = frozenset()

    def __init__(self, url: str, config: Mapping[str, str]) -> None:
        project, topics = parse_url(url)
        if len(topics) != 1:
            raise ConfigurationError(f"A Pub/Sub destination is one topic, not {len(topics)}.")
        self._project, self._topic = project, topics[0]
        self._path = f"projects/{project}/topics/{topics[0]}"
        self._options = client_options(config)
        self._client: pubsub_v1.PublisherClient | None = None
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="pubsub")
        self._undelivered: list[Undelivered] = []
        self._failure: PersistorError | None = None

    def destination(self) -> Destination:
        """See :class:`transforms.brokers.Publisher`."""
        problems = []
        try:
            with calling(f"find the topic {self._topic}"):
                self._open().get_topic(topic=self._path)
        except ConfigurationError as error:
            problems = error.problems
        return _Destination(
            self._topic,
            Trait.KEY | Trait.HEADERS,
            max_bytes=_MESSAGE_BYTES,
            problems=problems,
            warnings=["Order within a key needs subscriptions with message ordering enabled."],
            identity=f"pubsub:{self._project}",
            incarnation=self._path,
        )

    def begin(self) -> int | None:
        """See :class:`transforms.brokers.Publisher`. Pub/Sub keeps no progress."""
        with calling("connect"):
            self._open()
        self._undelivered, self._failure = [], None
        return None

    def send(self, messages: pa.Table, options: PublishOptions) -> None:
        """See :class:`transforms.brokers.Publisher`. Failures are reported by :meth:`commit`."""
        if self._failure:
            return  # later messages of a key must not overtake a failed one
        lanes: dict[str, list[_Message]] = {}
        for message in _messages(messages, options.extra_headers):
            refusal = _refusal(message)
            if refusal:
                self._undelivered.append(Undelivered(message[0], refusal))
            else:
                lanes.setdefault(message[1], []).append(message)
        unordered = [[request] for request in _requests(lanes.pop("", []))]
        ordered = [list(_requests(lane)) for lane in lanes.values()]
        for undelivered in self._threads.map(self._publish_in_turn, unordered + ordered):
            self._undelivered += undelivered

    def commit(self, done: int) -> list[Undelivered]:  # noqa: ARG002 - Pub/Sub keeps no progress
        """See :class:`transforms.brokers.Publisher`."""
        undelivered, failure = self._undelivered, self._failure
        self._undelivered, self._failure = [], None
        if failure:
            raise failure
        return undelivered

    def finish(self) -> None:
        """Does nothing: the service stores nothing of a job."""

    def close(self) -> None:
        """See :class:`transforms.brokers.Publisher`."""
        self._threads.shutdown()
        if self._client is not None:
            self._client.transport.close()
            self._client = None

    def _open(self) -> pubsub_v1.PublisherClient:
        if self._client is None:
            self._client = pubsub_v1.PublisherClient(**self._options)
        return self._client

    def _publish_in_turn(self, requests: list[list[_Message]]) -> list[Undelivered]:
        try:
            return list(chain.from_iterable(map(self._publish, requests)))
        except PersistorError as error:
            self._failure = error
            return []

    def _publish(self, request: Sequence[_Message]) -> list[Undelivered]:
        """Send one request; if the service refuses it, send one per message."""
        body = PublishRequest(topic=self._path, messages=[message for _, _, _, message in request])
        try:
            with calling(f"publish to {self._topic}"):
                Generated.publish(self._open(), request=body, retry=_RETRY, timeout=60.0)
        except PersistorError as error:
            if not isinstance(error.__cause__, exceptions.InvalidArgument):
                raise
            if len(request) == 1:
                return [Undelivered(request[0][0], "Pub/Sub refuses the message as invalid")]
            return list(chain.from_iterable(self._publish([message]) for message in request))
        return []


class _Destination(Destination):
    def may_be(self, source: str) -> bool:  # noqa: ARG002 - sources are named by subscriptions
        """Any subscription may be one of this topic."""
        return True


def _messages(messages: pa.Table, extra: Sequence[tuple[str, bytes]]) -> Iterator[_Message]:
    more = {name: _text(value) for name, value in extra}
    columns = (messages[name].to_pylist() for name in ("id", "key", "data", "headers"))
    for id, key, data, headers in zip(*columns, strict=True):
        attributes = {header["name"]: _text(header["value"]) for header in headers} | more
        ordering_key = _text(key)
        message = PubsubMessage(data=data or b"", attributes=attributes, ordering_key=ordering_key)
        yield id or "", ordering_key, PubsubMessage.pb(message).ByteSize(), message


def _text(value: bytes | None) -> str:
    """A readable replacement for a key or value that Pub/Sub cannot carry."""
    return (value or b"").decode("utf-8", "backslashreplace")


def _refusal(message: _Message) -> str | None:
    """Why the service would refuse a message; it would also refuse all others in the request."""
    _, key, size, sent = message
    attributes = sent.attributes
    if size > _MESSAGE_BYTES:
        return f"larger than the {_MESSAGE_BYTES} bytes that Pub/Sub accepts"
    if not sent.data and not attributes:
        return "Pub/Sub accepts no message without both data and attributes"
    if len(attributes) > _ATTRIBUTES or len(key.encode()) > _KEY_BYTES:
        return f"Pub/Sub accepts at most {_ATTRIBUTES} attributes and a key of {_KEY_BYTES} bytes"
    for name, value in attributes.items():
        if not name or name.startswith("goog") or len(name.encode()) > _NAME_BYTES:
            return f"Pub/Sub accepts attribute names of 1 to {_NAME_BYTES} bytes that do not begin with goog"
        if len(value.encode()) > _VALUE_BYTES:
            return f"Pub/Sub accepts attributes of at most {_VALUE_BYTES} bytes"
    return None


def _requests(messages: Sequence[_Message]) -> Iterator[list[_Message]]:
    """Messages of one key in requests that the service accepts."""
    request, size = list[_Message](), 0
    for message in messages:
        if request and (len(request) >= _REQUEST_MESSAGES or size + message[2] > _REQUEST_BYTES):
            yield request
            request, size = [], 0
        request.append(message)
        size += message[2]
    if request:
        yield request
