"""The figures of each source: from the index, and from persist's metrics if configured."""

from __future__ import annotations

import logging
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from http.client import HTTPException
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from resubmit_api.overview.causes import Cause, Causes, causes
from resubmit_api.overview.remembered import CachedAnswer
from transforms.budget import Budget, TooSlowError, within
from transforms.indexes import Index
from transforms.selection import Selection

__all__ = ["Live", "Overview", "SourceFacts"]

RECENT = timedelta(minutes=5)
_IN_TIME = 60.0
"""Seconds after which a figure that has to be counted is left out."""
_T = TypeVar("_T")
_PATIENCE = 1.0
"""Seconds to wait for the metrics of a process."""
_LARGEST = 16 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceFacts:
    """The figures of one source.

    Attributes:
        rate: messages per second, by publish time, in the last five minutes.
        files: None while they are being counted, or if that takes too long.
        dead: dead letters from this source, as far as they are counted.
        exact: whether messages and bytes are exact, else about right.
        lag: messages at the broker that are not read yet; None if unknown.
        waiting: age in seconds of the oldest message that was read but is not durable yet.
    """

    source: str
    messages: int
    bytes: int
    files: int | None
    oldest: datetime | None
    newest: datetime | None
    rate: float
    dead: int
    exact: bool = True
    lag: float | None = None
    waiting: float | None = None


@dataclass
class Live:
    """Figures from persist processes, by source; ``silent`` lists addresses that do not answer."""

    lag: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)


class Overview:
    """Caches the figures of all sources for some seconds; thread-safe.

    Args:
        index: returns the open index; raises ``TransientError`` if it does not answer.
        metrics: metrics addresses of persist, one per process.
    """

    def __init__(self, index: Callable[[], Index], metrics: Sequence[str]) -> None:
        self._index, self.metrics = index, tuple(metrics)
        self._sources = CachedAnswer(self._read_totals)
        self._rates = CachedAnswer(lambda: _in_time(self._read_rates))
        self._files = CachedAnswer(lambda: _in_time(lambda: index().files()))
        self._causes = CachedAnswer(lambda: _in_time(lambda: causes(index())) or Causes((), complete=False))
        self._live = CachedAnswer(self._read_metrics)

    def sources(self, patience: float = 2.0) -> list[SourceFacts] | None:
        """Every source, sorted by name; None while they are first counted.

        Args:
            patience: seconds to wait for the first count.

        Raises:
            TransientError: the index does not answer.
        """
        until = time.monotonic() + patience
        found = self._sources.get(patience)
        if not found:
            return found

        def rest() -> float:
            return max(until - time.monotonic(), 0.0)

        rates, files, letters = self._rates.get(rest()), self._files.get(rest()), self.causes(rest())
        live, dead = self.live(), _by_source(letters.found if letters else ())
        return [
            replace(
                facts,
                files=None if files is None else files.get(facts.source, 0),
                rate=(rates or {}).get(facts.source, 0.0),
                dead=dead.get(facts.source, 0),
                lag=live.lag.get(facts.source),
                waiting=live.waiting.get(facts.source),
            )
            for facts in found
        ]

    def causes(self, patience: float = 2.0) -> Causes | None:
        """Dead letters by cause; behaves like :meth:`sources`."""
        return self._causes.get(patience)

    def live(self) -> Live:
        """The figures from persist's metrics."""
        return self._live.get() or Live()

    def _read_totals(self) -> list[SourceFacts]:
        return [
            SourceFacts(
                source=found.source,
                messages=found.messages,
                bytes=found.bytes,
                files=None,
                oldest=found.oldest,
                newest=found.newest,
                rate=0.0,
                dead=0,
                exact=found.exact,
            )
            for found in self._index().totals()
        ]

    def _read_rates(self) -> dict[str, float]:
        recent = Selection(published_from=datetime.now(timezone.utc) - RECENT)
        found = self._index().summarize(recent)
        return {one.source: one.messages / RECENT.total_seconds() for one in found}

    def _read_metrics(self) -> Live:
        live = Live()
        if self.metrics:
            with ThreadPoolExecutor(len(self.metrics)) as threads:
                for url, samples in zip(self.metrics, threads.map(_scrape, self.metrics), strict=True):
                    _take_in(live, url, samples)
        return live


def _in_time(ask: Callable[[], _T]) -> _T | None:
    """What ``ask`` finds; None if that takes too long."""
    try:
        with within(Budget(time.monotonic() + _IN_TIME)):
            return ask()
    except TooSlowError as error:
        _log.warning("Figures of the overview are missing: %s", error)
        return None


def _by_source(found: Sequence[Cause]) -> dict[str, int]:
    dead: dict[str, int] = {}
    for cause in found:
        if cause.source is not None:
            dead[cause.source] = dead.get(cause.source, 0) + cause.messages
    return dead


def _scrape(url: str) -> list[Sample] | None:
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE) as answer:  # noqa: S310 - checked at start
            text = answer.read(_LARGEST).decode(errors="replace")
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except (OSError, ValueError, HTTPException) as error:
        _log.warning("%s does not answer: %s", url, error)
        return None


def _take_in(live: Live, url: str, samples: list[Sample] | None) -> None:
    if samples is None:
        live.silent.append(url)
    for sample in samples or ():
        source = sample.labels.get("source", "")
        if sample.name == "persistor_lag_messages":
            live.lag[source] = live.lag.get(source, 0.0) + sample.value
        elif sample.name == "persistor_oldest_unarchived_seconds":
            live.waiting[source] = max(live.waiting.get(source, 0.0), sample.value)
