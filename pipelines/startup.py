"""Before a streaming job starts: does everything that it names answer, and may it be used?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from pipelines.settings import IndexSettings, PersistSettings
from transforms import registry, stop
from transforms.errors import ConfigurationError, retry
from transforms.lake import AccessDeniedError, Lake, ObjectMissingError

__all__ = ["check"]

_Settings = PersistSettings | IndexSettings


def check(settings: _Settings) -> None:
    """Ask each server once, waiting for those that are away.

    Raises:
        ConfigurationError: with everything that is wrong, such as missing topics and refused credentials.
        TransientError: something was still away when the process was told to stop.
    """
    problems = []
    for ask in _questions(settings):
        try:
            retry(ask, "start", stopped=stop.stopping)
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(problems)


def _questions(settings: _Settings) -> Iterator[Callable[[], None]]:
    if isinstance(settings, PersistSettings):
        yield partial(_ask_source, settings.source, settings.source_config, settings.exclude)
        yield partial(_ask_lake, settings.lake, settings.lake_config)
        if settings.metadata:
            yield partial(_ask_topic, "--metadata", settings.metadata, settings.metadata_config)
    else:
        yield partial(_ask_source, settings.metadata, settings.metadata_config, ())
    if settings.index:
        yield partial(_ask_index, settings.index)
    if settings.dead_letter:
        yield partial(_ask_topic, "--dead_letter", settings.dead_letter, settings.dead_letter_config)


def _ask_source(url: str, config: Mapping[str, str], exclude: tuple[str, ...]) -> None:
    reader = registry.broker(url).open_reader(url, config, group="persistor-preflight", exclude=exclude)
    try:
        reader.discover()
    finally:
        reader.close()


def _ask_lake(url: str, config: Mapping[str, str]) -> None:
    lake = Lake(url, config)
    try:
        next(lake.list("_persistor/sources"), None)
    except AccessDeniedError as error:
        raise ConfigurationError(f"--lake {url}: {error}. Check the credentials and their rights.") from error
    except ObjectMissingError as error:
        raise ConfigurationError(f"--lake {url}: {error}. Create the bucket or container first.") from error


def _ask_index(url: str) -> None:
    index = registry.index(url).open(url)
    try:
        index.ping()
    finally:
        index.close()


def _ask_topic(option: str, url: str, config: Mapping[str, str]) -> None:
    publisher = registry.broker(url).open_publisher(url, config)
    try:
        problems = publisher.destination().problems
    finally:
        publisher.close()
    if problems:
        raise ConfigurationError([f"{option}: {problem}" for problem in problems])
