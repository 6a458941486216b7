"""A pool of open publishers; each is used by one thread at a time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from resubmit_api.errors import AwayError, needs
from resubmit_api.settings import DestinationSettings
from transforms import registry
from transforms.brokers import Destination, Publisher
from transforms.errors import ConfigurationError
from transforms.lake import Lake
from transforms.replay.archived import with_archives

__all__ = ["Lent", "Publishers"]

_MOST_OPEN = 32
_PATIENCE = 10.0
_FRESH = 10.0
"""Seconds for which the facts about a topic are cached."""


@dataclass(frozen=True)
class Lent:
    """A borrowed publisher with the facts about its topic.

    Attributes:
        url: of broker and topic, secret references unresolved.
    """

    url: str
    publisher: Publisher
    destination: Destination


@dataclass
class _Slot:
    url: str
    config: Mapping[str, str]
    lakes: Sequence[Lake]
    lock: threading.Lock = field(default_factory=threading.Lock)
    publisher: Publisher | None = None
    destination: Destination | None = None
    looked_up: float = 0.0

    def ready(self) -> Lent:
        if self.publisher is None:
            module = registry.broker(self.url)
            self.publisher = module.open_publisher(self.url, self.config, name=None)
        # Start a new round each time: a message that was sent before must be sent again now.
        self.publisher.begin()
        if self.destination is None or time.monotonic() - self.looked_up > _FRESH:
            found = self.publisher.destination()
            with needs("A lake"):
                self.destination = with_archives(found, self.lakes)
            self.looked_up = time.monotonic()
        if self.destination.problems:
            raise ConfigurationError(self.destination.problems)
        return Lent(self.url, self.publisher, self.destination)

    def drop(self) -> None:
        publisher, self.publisher, self.destination = self.publisher, None, None
        if publisher is not None:
            publisher.close()


class Publishers:
    """The configured destinations by name, with a pool of publishers by destination and topic."""

    def __init__(self, destinations: Mapping[str, DestinationSettings], lakes: Sequence[Lake]) -> None:
        self._destinations, self._lakes = dict(destinations), lakes
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The names of the destinations, sorted."""
        return sorted(self._destinations)

    def address(self, name: str, topic: str) -> tuple[str, Mapping[str, str]]:
        """URL of a topic at a named destination, and its client's configuration.

        Raises:
            ConfigurationError: no destination has this name.
        """
        if name not in self._destinations:
            known = ", ".join(sorted(self._destinations))
            raise ConfigurationError(f"No destination has this name; configured are {known}.")
        found = self._destinations[name]
        return f"{found.url.rstrip('/')}/{topic}", found.config

    @contextlib.contextmanager
    def lend(self, name: str, topic: str) -> Iterator[Lent]:
        """Borrow the publisher of a topic for this thread alone; it is closed if it fails meanwhile.

        Raises:
            ConfigurationError: unknown destination, missing topic or refused credentials.
            TransientError: the broker does not answer, or other threads use the publisher for too long.
        """
        slot = self._slot(name, topic)
        if not slot.lock.acquire(timeout=_PATIENCE):
            raise AwayError(f"Destination {name} is busy with other requests; try again.")
        try:
            with _dropping(slot):
                yield _ready(slot, name, topic)
        finally:
            slot.lock.release()

    def close(self) -> None:
        """Disconnect all publishers, after waiting for those in use."""
        with self._lock:
            slots, self._slots = list(self._slots.values()), {}
        for slot in slots:
            with slot.lock:
                slot.drop()

    def _slot(self, name: str, topic: str) -> _Slot:
        url, config = self.address(name, topic)
        with self._lock:
            slot = self._slots.pop((name, topic), None) or _Slot(url, config, self._lakes)
            self._slots[name, topic] = slot  # keep the last used one last
            self._drop_idle()
        return slot

    def _drop_idle(self) -> None:
        surplus = len(self._slots) - _MOST_OPEN
        for key in list(self._slots)[: max(surplus, 0)]:
            slot = self._slots[key]
            if slot.lock.acquire(blocking=False):
                del self._slots[key]
                slot.drop()
                slot.lock.release()


def _ready(slot: _Slot, name: str, topic: str) -> Lent:
    try:
        return slot.ready()
    except ConfigurationError as error:
        # A caller must not learn the broker's address.
        shown = [text.replace(slot.url, f"{topic} at {name}") for text in error.problems]
        raise ConfigurationError(shown) from error


@contextlib.contextmanager
def _dropping(slot: _Slot) -> Iterator[None]:
    finished = False
    try:
        yield
        finished = True
    finally:
        if not finished:
            slot.drop()
