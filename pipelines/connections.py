"""The servers in a command's settings: opens them, and checks all of them before a streaming job starts."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from pipelines.settings.maintenance import CostSettings, ExpireSettings, MaintainSettings, RebuildSettings
from pipelines.settings.replay import JobsSettings, PlanSettings
from pipelines.settings.streaming import IndexSettings, PersistSettings, Streaming, StreamingSettings
from resubmit_api.settings import ApiSettings
from transforms import registry, stop
from transforms.brokers import Destination
from transforms.errors import ConfigurationError
from transforms.indexes import Index
from transforms.lake import INTERNAL, AccessDeniedError, Lake, ObjectMissingError
from transforms.metrics import RETRIES
from transforms.probe import refuse_overwriting
from transforms.replay import LookUp
from transforms.replay.routing import is_pattern
from transforms.retry import retry
from transforms.settings.shared import ArchiveSettings, LakeSettings

__all__ = [
    "Connecting",
    "addresses",
    "brokers_of",
    "check",
    "destination_of",
    "index_of",
    "lakes_of",
    "look_up",
    "open_index",
    "open_lake",
    "open_lakes",
    "patiently",
    "source_of",
    "topics_of",
]
_log = logging.getLogger(__name__)

_PATIENCE = 60.0
_T = TypeVar("_T")

Connecting = (
    PersistSettings
    | IndexSettings
    | PlanSettings
    | JobsSettings
    | RebuildSettings
    | ExpireSettings
    | MaintainSettings
    | CostSettings
    | ApiSettings
)
"""Settings of a command that connects to something."""
Connected = tuple[str, Mapping[str, str]]
"""A URL, and settings of its client."""


def source_of(settings: Connecting) -> tuple[str, Mapping[str, str], Sequence[str]] | None:
    """What a command reads: URL, settings of its client, topics that are not read; None for nothing."""
    if isinstance(settings, PersistSettings):
        return settings.source, settings.source_config, settings.exclude
    if isinstance(settings, IndexSettings):
        return settings.metadata, settings.metadata_config, ()
    return None


def topics_of(settings: Connecting) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """Topics that a command publishes to: the setting's name, the topic's URL, client settings."""
    topics: list[tuple[str, str | None, Mapping[str, str]]] = []
    if isinstance(settings, PersistSettings):
        topics.append(("metadata", settings.metadata, settings.metadata_config))
    if isinstance(settings, StreamingSettings):
        topics.append(("dead_letter", settings.dead_letter, settings.dead_letter_config))
    if isinstance(settings, PlanSettings):
        topics.append(("destination", settings.destination, settings.destination_config))
    yield from ((name, url, config) for name, url, config in topics if url)


def lakes_of(settings: Connecting) -> list[Connected]:
    """The lakes of a command."""
    if isinstance(settings, LakeSettings):
        return [(settings.lake, settings.lake_config)]
    if isinstance(settings, ArchiveSettings):
        return [(url, settings.lake_config) for url in settings.lakes]
    return []


def index_of(settings: Connecting) -> str | None:
    """The index of a command; None for none."""
    return None if isinstance(settings, MaintainSettings | CostSettings) else settings.index


def brokers_of(settings: Connecting) -> dict[str, Connected]:
    """The brokers whose topics are named by requests, by the names that requests use."""
    found = settings.destinations if isinstance(settings, ApiSettings) else {}
    return {name: (broker.url, broker.config) for name, broker in found.items()}


def open_lake(url: str, config: Mapping[str, str], *, writes: bool = False) -> Lake:
    """A lake that answers and, for whoever ``writes`` to it, overwrites nothing.

    Raises:
        ConfigurationError: it is not there, refuses us, or is a store that overwrites.
        TransientError: it does not answer.
    """
    lake = Lake(url, config)
    try:
        next(lake.list(f"{INTERNAL}sources"), None)
        if writes:
            refuse_overwriting(lake)
    except AccessDeniedError as error:
        raise ConfigurationError(f"--lake {url}: {error}. Check the credentials and their rights.") from error
    except ObjectMissingError as error:
        raise ConfigurationError(f"--lake {url}: {error}. Create the bucket or container first.") from error
    return lake


def destination_of(url: str, config: Mapping[str, str]) -> Destination:
    """The properties of a topic; see :meth:`transforms.brokers.Publisher.destination`."""
    with contextlib.closing(registry.broker(url).open_publisher(url, config)) as publisher:
        return publisher.destination()


def check(settings: Streaming) -> None:
    """Check each server of a streaming command once; waits, and counts, while one does not answer.

    Raises:
        ConfigurationError: lists all problems, such as missing topics and refused credentials.
        TransientError: a server still did not answer when the process was asked to stop.
    """
    problems = []
    for what, ask in _questions(settings):
        try:
            retry(ask, f"reach the {what}", on_retry=RETRIES.labels(what).inc, stopped=stop.stopping)
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(problems)


def _questions(settings: Streaming) -> Iterator[tuple[str, Callable[[], Any]]]:
    if source := source_of(settings):
        yield "broker", partial(_ask_source, *source)
    for lake in lakes_of(settings):
        yield "lake", partial(open_lake, *lake, writes=True)
    if settings.index:
        yield "index", partial(_ask_index, settings.index)
    for name, url, config in topics_of(settings):
        yield f"{name.replace('_', '-')} topic", partial(_ask_topic, name, url, config)


def _ask_source(url: str, config: Mapping[str, str], exclude: Sequence[str]) -> None:
    reader = registry.broker(url).open_reader(url, config, group="persistor-preflight", exclude=exclude)
    with contextlib.closing(reader):
        reader.discover()
        if reader.way:
            _log.info(reader.way)


def _ask_index(url: str) -> None:
    with contextlib.closing(registry.index(url).open(url)) as index:
        index.ping()


def _ask_topic(name: str, url: str, config: Mapping[str, str]) -> None:
    if problems := destination_of(url, config).problems:
        raise ConfigurationError([f"--{name}: {problem}" for problem in problems])


def addresses(settings: Connecting) -> tuple[list[str], list[Mapping[str, str]]]:
    """All URLs in a command's settings, and the client settings."""
    source = source_of(settings)
    topics = [(url, config) for _, url, config in topics_of(settings)]
    found = [*lakes_of(settings), *topics, *brokers_of(settings).values(), *([source[:2]] if source else [])]
    urls = [url for url, _ in found]
    index = index_of(settings)
    return [*urls, index] if index else urls, [config for _, config in found]


def open_index(settings: PlanSettings) -> Index:
    """Open the index; the caller closes it."""
    return registry.index(settings.index).open(settings.index)


def open_lakes(settings: PlanSettings) -> list[Lake]:
    """Open the lakes; the first one holds plans, so it is checked for safe writes.

    Raises:
        ConfigurationError: one cannot be opened, or the first one is not fit for plans.
        TransientError: the first one did not answer for a minute.
    """
    first, *others = settings.lakes
    ask = partial(open_lake, first, settings.lake_config, writes=True)
    return [patiently(ask, "reach the lake"), *(Lake(url, settings.lake_config) for url in others)]


def look_up(settings: PlanSettings) -> Destination | LookUp:
    """The properties of the destination's topic; a function that looks them up if the topic is a pattern.

    Raises:
        ConfigurationError: the topic does not exist, or a setting is not valid.
        TransientError: the broker did not answer for a minute.
    """
    topic = (settings.destination or "").rpartition("/")[2]
    look_up = topics_at(settings, settings.destination or "")
    return look_up if is_pattern(topic) else look_up(topic)


def topics_at(settings: PlanSettings, destination: str) -> LookUp:
    """How to find out what a topic is like that lies beside the one of a destination's URL."""
    base = destination.rpartition("/")[0]

    def look_up(topic: str) -> Destination:
        url = f"{base}/{topic}"
        publisher = registry.broker(url).open_publisher(url, settings.destination_config)
        try:
            return patiently(publisher.destination, "look up the destination")
        finally:
            publisher.close()

    return look_up


def patiently(call: Callable[[], _T], what: str) -> _T:
    """Call until it succeeds, for up to a minute; see :func:`transforms.errors.retry`."""
    return retry(call, what, give_up_after=_PATIENCE, stopped=stop.stopping)
