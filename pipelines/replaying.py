"""What the settings of plan and resubmit mean: where the messages are, where they go, and the job's row."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import psutil

from pipelines.settings import PlanSettings
from transforms import registry
from transforms.brokers import Destination
from transforms.errors import retry
from transforms.indexes import Index
from transforms.jobs import Row, create, new_row
from transforms.lake import Lake
from transforms.replay import LookUp, Options, Plan
from transforms.replay.routing import is_pattern
from transforms.selection import parse_selection
from transforms.stop import stopping

__all__ = [
    "look_up",
    "new_job",
    "open_index",
    "open_lakes",
    "patiently",
    "row_of",
    "store",
    "user",
]

_PATIENCE = 60.0
_T = TypeVar("_T")


def open_index(settings: PlanSettings) -> Index:
    """The index; to be closed."""
    return registry.index(settings.index).open(settings.index)


def open_lakes(settings: PlanSettings) -> list[Lake]:
    """The lakes; the first one holds plans."""
    return [Lake(url, settings.lake_config) for url in settings.lakes]


def look_up(settings: PlanSettings) -> Destination | LookUp:
    """What the destination's topic is like; how to find out, where it depends on the messages.

    Raises:
        ConfigurationError: there is no such topic, or something in the settings cannot be right.
        TransientError: the broker stayed away for a minute.
    """
    base, _, topic = (settings.destination or "").rpartition("/")

    def look_up(topic: str) -> Destination:
        url = f"{base}/{topic}"
        publisher = registry.broker(url).open_publisher(url, settings.destination_config)
        try:
            return patiently(publisher.destination, "look up the destination")
        finally:
            publisher.close()

    return look_up if is_pattern(topic) else look_up(topic)


def new_job(settings: PlanSettings, state: str, rate: Mapping[str, float | None]) -> Row:
    """The row of what the settings ask for, as of now."""
    destination, topic = _shown(settings.destination or "")
    return new_row(
        destination=destination,
        topic=topic,
        selection=parse_selection(settings.selection or ""),
        options=Options(
            timestamp=settings.timestamp,
            partitions=settings.partitions,
            lossy=settings.lossy,
            order=settings.order,
            restore=settings.restore,
            source_prefix=settings.source_prefix,
        ),
        requested_by=user(),
        state=state,
        rate=rate,
    )


def row_of(stored: Plan) -> Row:
    """A row for a job that has a plan only: the index was made anew since."""
    destination, _ = _shown(stored.destination)
    selection = parse_selection(json.dumps(stored.selection))
    return new_row(
        id=stored.job,
        destination=destination,
        topic=stored.topic,
        selection=selection,
        options=stored.options,
        requested_by=user(),
    )


def store(index: Index, row: Row, action: str) -> Row:
    """Store a new job that is held already, and who asked for it.

    Raises:
        TransientError: the index stayed away for a minute.
    """
    return patiently(lambda: create(index, row, action), "store the job")


def user() -> str:
    """Who runs this process, and where."""
    return f"{psutil.Process().username()}@{socket.gethostname()}"


def patiently(call: Callable[[], _T], what: str) -> _T:
    """Call until it succeeds, for a minute; see :func:`transforms.errors.retry`."""
    return retry(call, what, give_up_after=_PATIENCE, stopped=stopping)


def _shown(url: str) -> tuple[str, str]:
    """A destination's address without what may be a password, and its topic."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.strip("/")
