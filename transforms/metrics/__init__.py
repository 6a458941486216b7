"""The Prometheus metrics of a process, some also reported to Beam. No thread or port until :func:`serve`.

Each counter is counted once: :func:`unreported` returns what :mod:`transforms.metrics.beam` adds to the
Beam counter of the same name.
Every metric of a source carries its name as label, up to ``MOST_SOURCES`` names per process; further
sources are counted together as ``(others)``.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from wsgiref.simple_server import WSGIServer

import prometheus_client
from prometheus_client import Gauge, Histogram, disable_created_metrics, start_http_server

from transforms.errors import ConfigurationError

__all__ = [
    "ACK_SECONDS",
    "BATCHES",
    "BLOCKED",
    "BYTES",
    "CONFLICTS",
    "DEAD_LETTERS",
    "FILES",
    "GAPS",
    "GONE",
    "INDEXED",
    "INDEX_SECONDS",
    "LAG",
    "MESSAGES",
    "MOST_SOURCES",
    "OLDEST",
    "REPLAYED",
    "RETRIES",
    "SHARDS",
    "UNREADABLE",
    "WRITE_SECONDS",
    "begin",
    "label",
    "left",
    "listen",
    "serve",
    "standing",
    "timed",
    "unreported",
]

Lags = Callable[[], Mapping[str, int]]
MOST_SOURCES = 1000
_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_DEAD = ("read", "lost"), ("write", "gave_up"), ("write", "permanent"), ("index", "permanent")

_lock = threading.Lock()
_standing = threading.Lock()
_sources: set[str] = set()
_served: dict[int, str] = {}
_readers: dict[int, tuple[Lags, Mapping[str, float | None]]] = {}
_unreported: dict[str, float] = defaultdict(float)


class _Counter(prometheus_client.Counter):
    """Sums what was added, over all labels, until it is reported to Beam."""

    def __init__(
        self, name: str, documentation: str, labelnames: Sequence[str] = (), **settings: Any
    ) -> None:
        # Also called by labels(), for one series, with the same name.
        self._beam_name = name.removeprefix("persistor_")
        super().__init__(name, documentation, labelnames, **settings)

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        super().inc(amount, exemplar)
        with _lock:
            _unreported[self._beam_name] += amount


MESSAGES = _Counter("persistor_messages", "Messages archived.", ["source"])
BYTES = _Counter("persistor_bytes", "Bytes of key, data and headers archived.", ["source"])
BATCHES = _Counter("persistor_batches", "Batches closed, by reason.", ["source", "reason"])
FILES = _Counter("persistor_files", "Files written to the lake.", ["source"])
INDEXED = _Counter("persistor_indexed", "Entries new to the index.", ["source"])
WRITE_SECONDS = Histogram("persistor_write_seconds", "Time to encode and write one file.", buckets=_LATENCIES)
INDEX_SECONDS = Histogram(
    "persistor_index_seconds", "Time to insert the entries of one batch.", buckets=_LATENCIES
)
ACK_SECONDS = Histogram("persistor_ack_seconds", "Time to acknowledge at the broker.", buckets=_LATENCIES)
LAG = Gauge("persistor_lag_messages", "Messages at the broker that are not read yet.", ["source"])
OLDEST = Gauge(
    "persistor_oldest_unarchived_seconds",
    "Age of the oldest message that was read but is not durable in lake and index yet.",
    ["source"],
)
SHARDS = Gauge("persistor_shards", "Shards into which the job's processes divide the partitions.")
_READ = Gauge("persistor_shards_read", "Shards that this process reads.")
_READ.set_function(lambda: len(_readers))
RETRIES = _Counter("persistor_retries", "Calls retried because a server did not answer.", ["what"])
DEAD_LETTERS = _Counter(
    "persistor_dead_letters", "Messages sent to the dead-letter topic.", ["source", "stage", "category"]
)
GAPS = _Counter(
    "persistor_gap_messages",
    "Messages that retention removed before they were archived, or that were skipped as they cannot be read; "
    "of a hole its positions.",
    ["source"],
)
REPLAYED = _Counter(
    "persistor_replayed_skipped",
    "Messages left out of the archive, because a resubmission has sent and marked them.",
    ["source"],
)
BEYOND = _Counter(
    "persistor_late_times",
    "Messages whose publish time lies behind the year 294247, such as nanoseconds given as milliseconds; the "
    "lake keeps the latest time that it can.",
    ["source"],
)
UNREADABLE = _Counter(
    "persistor_partition_errors",
    "Failed reads of a partition, by error name; the partition stands still while this grows.",
    ["source", "partition", "code"],
)
BLOCKED = Gauge(
    "persistor_partition_blocked",
    "1 while a partition, stream or subscription cannot be read, by error name; 0 once it is read again.",
    ["source", "partition", "code"],
)
GONE = Gauge(
    "persistor_topic_gone",
    "1 if a topic that was read no longer exists: deleted, or hidden from this user.",
    ["source"],
)
CONFLICTS = _Counter("persistor_conflicts", "Ids already indexed for another message.", ["source"])


def begin(source: str) -> None:
    """Create the series of a new source: the gauges of its readers, and rare counters at 0.

    Prometheus sees an increase only in series that existed before.
    """
    named = label(source)
    LAG.labels(named).set_function(partial(_lag, named))
    OLDEST.labels(named).set_function(partial(_age, named))
    GAPS.labels(named)
    GONE.labels(named).set(0)
    for stage, category in _DEAD:
        DEAD_LETTERS.labels(named, stage, category)


def label(source: str) -> str:
    """The label value for a source: its name, or ``(others)`` after ``MOST_SOURCES`` names."""
    with _lock:
        if source not in _sources and len(_sources) >= MOST_SOURCES:
            return "(others)"
        _sources.add(source)
        return source


def standing(reader: object, lags: Lags, oldest: Mapping[str, float | None]) -> None:
    """Register a reader's position; gauges show all readers, for sources known to :func:`begin`.

    Args:
        reader: its identity; the last call counts, until :func:`left`.
        lags: called from another thread at each scrape, so that lag grows visibly while the reader waits;
            by source label.
        oldest: publish time (seconds since 1970) of the oldest open message by source label, or None. Its
            age grows between calls.
    """
    with _standing:
        _readers[id(reader)] = lags, oldest


def left(reader: object) -> None:
    """Unregister a reader."""
    with _standing:
        _readers.pop(id(reader), None)


def _lag(named: str) -> float:
    with _standing:
        return float(sum(lags().get(named, 0) for lags, _ in _readers.values()))


def _age(named: str) -> float:
    with _standing:
        times = [at for _, oldest in _readers.values() if (at := oldest.get(named)) is not None]
    return max(0.0, time.time() - min(times)) if times else 0.0


def unreported() -> dict[str, int]:
    """The increase of every counter since the last call, by its name without ``persistor_``."""
    with _lock:
        given = {name: int(amount) for name, amount in _unreported.items()}
        _unreported.clear()
    return given


@contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    """Observe the seconds that the block takes, even if it fails."""
    with histogram.time():
        yield


def serve(port: int, host: str = "0.0.0.0") -> None:  # noqa: S104 - Prometheus scrapes from another host
    """Serve this process's metrics under ``/metrics``, once per port.

    Args:
        port: 0 serves nothing.
        host: address to listen on.

    Raises:
        ConfigurationError: the port is in use, or the address does not belong to this machine.
    """
    with _lock:
        if port == 0 or port in _served:
            return
        try:
            listen(port, host)
        except OSError as error:
            raise ConfigurationError(
                f"`metrics_port: {port}` on {host}: {error.strerror}; choose another port, or 0 for none."
            ) from error
        _served[port] = host


def listen(port: int, host: str) -> WSGIServer:
    """Serve this process's metrics until the server is shut down.

    Raises:
        OSError: the port is in use, or the address does not belong to this machine.
    """
    # A creation time per series would double the number of series without use.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return start_http_server(port, host)[0]
