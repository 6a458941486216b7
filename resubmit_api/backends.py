"""The servers the service depends on: one index, the lakes, and the destinations."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from resubmit_api.publishers import Publishers
from resubmit_api.settings import ApiSettings
from transforms import registry
from transforms.errors import ConfigurationError, TransientError
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.probe import refuse_overwriting

__all__ = ["Backends"]

_log = logging.getLogger(__name__)

_BRIEFLY = {"timeout": "10s"}


class Backends:
    """Opened once and shared by all threads; an unreachable index is opened once it is back."""

    def __init__(self, settings: ApiSettings) -> None:
        """Open what can be opened.

        Raises:
            ConfigurationError: all problems at once.
        """
        self.settings = settings
        self._index: Index | None = None
        self._lock = threading.Lock()
        problems: list[str] = []
        self._open_index(problems)
        self.lakes = self._open_lakes(problems)
        _check_destinations([url for _, url in settings.destination_urls], problems)
        if problems:
            raise ConfigurationError(problems)
        self.publishers = Publishers(settings.destinations, self.lakes)

    @property
    def index(self) -> Index:
        """The open index. Raises ``TransientError`` while it has never been reachable."""
        with self._lock:
            if self._index is None:
                self._index = registry.index(self.settings.index).open(self.settings.index)
            return self._index

    def close(self) -> None:
        """Release everything."""
        self.publishers.close()
        if self._index is not None:
            self._index.close()

    def _open_index(self, problems: list[str]) -> None:
        try:
            self._index = registry.index(self.settings.index).open(self.settings.index)
        except ConfigurationError as error:
            problems += error.problems
        except TransientError as error:
            _log.warning("The index does not answer; the next request tries again: %s", error)

    def _open_lakes(self, problems: list[str]) -> list[Lake]:
        lakes = []
        for url in self.settings.lakes:
            try:
                lakes.append(Lake(url, self.settings.lake_config))
                if len(lakes) == 1:  # which holds the plans
                    refuse_overwriting(Lake(url, {**_BRIEFLY, **self.settings.lake_config}))
            except ConfigurationError as error:
                problems += error.problems
            except TransientError as error:
                _log.warning("The lake does not answer; whether it overwrites objects is unknown: %s", error)
        return lakes


def _check_destinations(urls: Iterable[str], problems: list[str]) -> None:
    for url in urls:
        try:
            registry.broker(url)
        except ConfigurationError as error:
            problems += error.problems
