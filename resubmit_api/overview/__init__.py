"""The figures of each source: from the index, and from persist's metrics if configured."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from http.client import HTTPException

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from resubmit_api.overview.causes import Cause, Causes, causes
from resubmit_api.overview.remembered import CachedAnswer
from transforms.indexes import Index
from transforms.selection import Selection

__all__ = ["Live", "Overview", "SourceFacts"]

RECENT = timedelta(minutes=5)
_EVERYTHING = Selection(all=True)
_PATIENCE = 1.0
"""Seconds to wait for the metrics of a process."""
_LARGEST = 16 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceFacts:
    """The figures of one source.

    Attributes:
        rate: messages per second, by publish time, in the last five minutes.
        dead: dead letters from this source.
        lag: messages at the broker that are not read yet; None if unknown.
        waiting: age in seconds of the oldest message that was read but is not durable yet.
    """

    source: str
    messages: int
    bytes: int
    files: int
    oldest: datetime | None
    newest: datetime | None
    rate: float
    dead: int
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
        self._sources = CachedAnswer(self._read_index)
        self._causes = CachedAnswer(lambda: causes(index()))
        self._live = CachedAnswer(self._read_metrics)

    def sources(self, patience: float = 2.0) -> list[SourceFacts] | None:
        """Every source, sorted by name; None while they are first counted.

        Args:
            patience: seconds to wait for the first count.

        Raises:
            TransientError: the index does not answer.
        """
        found = self._sources.get(patience)
        live = self.live()
        return found and [
            replace(facts, lag=live.lag.get(facts.source), waiting=live.waiting.get(facts.source))
            for facts in found
        ]

    def causes(self, patience: float = 2.0) -> Causes | None:
        """Dead letters by cause; behaves like :meth:`sources`."""
        return self._causes.get(patience)

    def live(self) -> Live:
        """The figures from persist's metrics."""
        return self._live.get() or Live()

    def _read_index(self) -> list[SourceFacts]:
        index = self._index()
        recent = Selection(published_from=datetime.now(timezone.utc) - RECENT)
        rates = {found.source: found.messages / RECENT.total_seconds() for found in index.summarize(recent)}
        files, dead = index.files(), _by_source(causes(index).found)
        return [
            SourceFacts(
                source=found.source,
                messages=found.messages,
                bytes=found.bytes,
                files=files.get(found.source, 0),
                oldest=found.oldest,
                newest=found.newest,
                rate=rates.get(found.source, 0.0),
                dead=dead.get(found.source, 0),
            )
            for found in index.summarize(_EVERYTHING)
        ]

    def _read_metrics(self) -> Live:
        live = Live()
        if self.metrics:
            with ThreadPoolExecutor(len(self.metrics)) as threads:
                for url, samples in zip(self.metrics, threads.map(_scrape, self.metrics), strict=True):
                    _take_in(live, url, samples)
        return live


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
