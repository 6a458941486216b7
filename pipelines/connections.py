"""What a command's settings connect to; and, before a streaming job starts, whether all of it answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from pipelines.settings.replay import PlanSettings
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

__all__ = [
    "addresses",
    "check",
    "destination_of",
    "look_up",
    "open_index",
    "open_lake",
    "open_lakes",
    "patiently",
    "source_of",
    "topics_of",
]

_PATIENCE = 60.0
_T = TypeVar("_T")

Source = tuple[str, Mapping[str, str], Sequence[str]]
"""URL, settings of the client, and topics that are not read."""


def source_of(settings: Any) -> Source | None:
    """What a command reads, None where it reads nothing."""
    if settings.command == "persist":
        return settings.source, settings.source_config, settings.exclude
    if settings.command == "index":
        return settings.metadata, settings.metadata_config, ()
    return None


def topics_of(settings: Any) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """What a command publishes to: the setting's name, the topic's URL, settings of the client."""
    names = ("metadata", "dead_letter") if settings.command == "persist" else ("dead_letter", "destination")
    for name in names:
        if url := getattr(settings, name, None):
            yield name, url, getattr(settings, f"{name}_config")


def open_lake(url: str, config: Mapping[str, str], *, writes: bool = False) -> Lake:
    """A lake that answers and, for whoever ``writes`` to it, overwrites nothing.

    Raises:
        ConfigurationError: it is not there, refuses us, or is a store that overwrites.
        TransientError: it is away.
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
    """What a topic is like; see :meth:`transforms.brokers.Publisher.destination`."""
    with contextlib.closing(registry.broker(url).open_publisher(url, config)) as publisher:
        found: Destination = publisher.destination()
        return found


def check(settings: Any) -> None:
    """Ask each server that a streaming command names once; what is away is waited for, and counted.

    Raises:
        ConfigurationError: with everything that is wrong, such as missing topics and refused credentials.
        TransientError: something was still away when the process was told to stop.
    """
    problems = []
    for what, ask in _questions(settings):
        try:
            retry(ask, f"reach the {what}", on_retry=RETRIES.labels(what).inc, stopped=stop.stopping)
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(problems)


def _questions(settings: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    if source := source_of(settings):
        yield "broker", partial(_ask_source, *source)
    if lake := getattr(settings, "lake", None):
        yield "lake", partial(open_lake, lake, settings.lake_config, writes=True)
    if settings.index:
        yield "index", partial(_ask_index, settings.index)
    for name, url, config in topics_of(settings):
        yield f"{name.replace('_', '-')} topic", partial(_ask_topic, name, url, config)


def _ask_source(url: str, config: Mapping[str, str], exclude: Sequence[str]) -> None:
    reader = registry.broker(url).open_reader(url, config, group="persistor-preflight", exclude=exclude)
    with contextlib.closing(reader):
        reader.discover()


def _ask_index(url: str) -> None:
    with contextlib.closing(registry.index(url).open(url)) as index:
        index.ping()


def _ask_topic(name: str, url: str, config: Mapping[str, str]) -> None:
    if problems := destination_of(url, config).problems:
        raise ConfigurationError([f"--{name}: {problem}" for problem in problems])


def addresses(settings: Any) -> tuple[list[str], list[Mapping[str, str]]]:
    """URLs of everything that a command's settings connect to, and the settings of the clients."""
    names = ("source", "lake", "index", "metadata", "dead_letter", "destination")
    urls = [url for name in names if isinstance(url := getattr(settings, name, None), str)]
    configs = [getattr(settings, f"{name}_config") for name in names if hasattr(settings, f"{name}_config")]
    destinations = getattr(settings, "destinations", {}).values()
    urls += [*getattr(settings, "lakes", ()), *(destination.url for destination in destinations)]
    return urls, [*configs, *(destination.config for destination in destinations)]


def open_index(settings: PlanSettings) -> Index:
    """The index; to be closed."""
    return registry.index(settings.index).open(settings.index)


def open_lakes(settings: PlanSettings) -> list[Lake]:
    """The lakes; the first one holds plans, so it is asked whether it is safe to write to.

    Raises:
        ConfigurationError: one cannot be opened, or the first one is not fit for plans.
        TransientError: the first one stayed away for a minute.
    """
    first, *others = settings.lakes
    ask = partial(open_lake, first, settings.lake_config, writes=True)
    return [patiently(ask, "reach the lake"), *(Lake(url, settings.lake_config) for url in others)]


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


def patiently(call: Callable[[], _T], what: str) -> _T:
    """Call until it succeeds, for a minute; see :func:`transforms.errors.retry`."""
    return retry(call, what, give_up_after=_PATIENCE, stopped=stop.stopping)
