"""What a command's settings connect to; and, before a streaming job starts, whether all of it answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pipelines.shown import without_login
from transforms import registry, stop
from transforms.brokers import Destination
from transforms.errors import ConfigurationError, retry
from transforms.lake import INTERNAL, AccessDeniedError, Lake, ObjectMissingError
from transforms.metrics import RETRIES

__all__ = ["begun", "check", "destination_of", "ended", "open_lake", "source_of", "topics_of"]

Source = tuple[str, Mapping[str, str], Sequence[str]]
"""URL, settings of the client, and topics that are not read."""


def source_of(settings: Any) -> Source | None:
    """What a command reads, None where it reads nothing."""
    if settings.command == "persist":
        return settings.source, settings.source_config, settings.exclude
    if settings.command == "index":
        return settings.metadata, settings.metadata_config, ()
    return None


def begun(settings: Any) -> str:
    """What a streaming command does from now on, without what may be a password in a URL."""
    if settings.command == "persist":
        what = f"Archiving {without_login(settings.source)} to {without_login(settings.lake)}"
    else:
        what = f"Indexing {without_login(settings.metadata)} in {without_login(settings.index)}"
    metrics = f"; metrics on :{settings.metrics_port}" if settings.metrics_port else ""
    return f"{what}{metrics}"


def ended(settings: Any) -> str:
    """What a streaming command has done when it has stopped in good order."""
    done = "archived" if settings.command == "persist" else "indexed"
    dead = " or a dead letter" if settings.dead_letter else ""
    return f"Stopped; everything that was read is {done}{dead}."


def topics_of(settings: Any) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """What a command publishes to: the setting's name, the topic's URL, settings of the client."""
    names = ("metadata", "dead_letter") if settings.command == "persist" else ("dead_letter", "destination")
    for name in names:
        if url := getattr(settings, name, None):
            yield name, url, getattr(settings, f"{name}_config")


def open_lake(url: str, config: Mapping[str, str]) -> Lake:
    """A lake that answers.

    Raises:
        ConfigurationError: it is not there, or refuses us.
        TransientError: it is away.
    """
    lake = Lake(url, config)
    try:
        next(lake.list(f"{INTERNAL}sources"), None)
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
        yield "lake", partial(open_lake, lake, settings.lake_config)
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
