"""What a process tells Prometheus, and what Beam takes over of it. No thread, no port until it is asked for.

Each counter is counted once: :func:`unreported` gives what :mod:`transforms.metrics.beam` adds to the
Beam counter of the same name.
Every metric of a source carries its name as label, up to ``MOST_SOURCES`` names per process;
the sources behind that are counted together as ``(others)``.
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
    """Remembers what was added, of all labels together, until it is reported to Beam."""

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
BATCHES = _Counter("persistor_batches", "Batches closed, by what closed them.", ["source", "reason"])
FILES = _Counter("persistor_files", "Files written to the lake.", ["source"])
INDEXED = _Counter("persistor_indexed", "Entries that were new to the index.", ["source"])
WRITE_SECONDS = Histogram("persistor_write_seconds", "Encoding and writing one file.", buckets=_LATENCIES)
INDEX_SECONDS = Histogram(
    "persistor_index_seconds", "Inserting the entries of one batch.", buckets=_LATENCIES
)
ACK_SECONDS = Histogram("persistor_ack_seconds", "Acknowledging at the broker.", buckets=_LATENCIES)
LAG = Gauge("persistor_lag_messages", "Messages at the broker that are not read yet.", ["source"])
OLDEST = Gauge(
    "persistor_oldest_unarchived_seconds",
    "Age of the oldest message that was read and is not durable in lake and index yet.",
    ["source"],
)
SHARDS = Gauge("persistor_shards", "Parts into which the job's processes divide the partitions.")
_READ = Gauge("persistor_shards_read", "How many of these parts this process reads.")
_READ.set_function(lambda: len(_readers))
RETRIES = _Counter("persistor_retries", "Calls repeated because what is named was away.", ["what"])
DEAD_LETTERS = _Counter(
    "persistor_dead_letters", "Messages sent to the dead letters.", ["source", "stage", "category"]
)
GAPS = _Counter(
    "persistor_gap_messages",
    "Messages that retention removed before they were archived, or that were skipped as they cannot be read; "
    "of a hole its positions.",
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
    "Reads of a partition that failed, by the error's name; it stands still while its count grows.",
    ["source", "partition", "code"],
)
GONE = Gauge(
    "persistor_topic_gone",
    "1 where a topic that was read is not there any more: deleted, or hidden from this user.",
    ["source"],
)
CONFLICTS = _Counter("persistor_conflicts", "Ids indexed already for another message.", ["source"])


def begin(source: str) -> None:
    """Show a source that is met: where its readers stand, and at 0 what is seldom counted.

    Prometheus sees an increase only of what was there before.
    """
    named = label(source)
    LAG.labels(named).set_function(partial(_lag, named))
    OLDEST.labels(named).set_function(partial(_age, named))
    GAPS.labels(named)
    GONE.labels(named).set(0)
    for stage, category in _DEAD:
        DEAD_LETTERS.labels(named, stage, category)


def label(source: str) -> str:
    """The label value for a source: its name, or ``(others)`` once there are ``MOST_SOURCES`` names."""
    with _lock:
        if source not in _sources and len(_sources) >= MOST_SOURCES:
            return "(others)"
        _sources.add(source)
        return source


def standing(reader: object, lags: Lags, oldest: Mapping[str, float | None]) -> None:
    """Note where a reader of this process stands; gauges show all of them, of what :func:`begin` met.

    Args:
        reader: who; the last word of each counts, until :func:`left`.
        lags: asked from another thread when Prometheus asks, so that a lag is seen to grow while the
            reader waits for something; by the labels of sources.
        oldest: publish time (seconds since 1970) of the oldest open message by the labels of
            sources, None if none is open. Its age grows between the calls.
    """
    with _standing:
        _readers[id(reader)] = lags, oldest


def left(reader: object) -> None:
    """A reader is gone; it is asked no more."""
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
    """What every counter was given since the last call, by its name without ``persistor_``."""
    with _lock:
        given = {name: int(amount) for name, amount in _unreported.items()}
        _unreported.clear()
    return given


@contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    """Observe the seconds that the block takes, failed or not."""
    with histogram.time():
        yield


def serve(port: int, host: str = "0.0.0.0") -> None:  # noqa: S104 - Prometheus scrapes from another host
    """Serve this process's metrics under ``/metrics``; again for the same port is no second server.

    Args:
        port: 0 serves nothing.
        host: address to listen on.

    Raises:
        ConfigurationError: the port is taken, or the address is not of this machine.
    """
    with _lock:
        if port == 0 or port in _served:
            return
        try:
            listen(port, host)
        except OSError as error:
            raise ConfigurationError(
                f"--metrics_port {port} on {host}: {error.strerror}; choose another one, or 0 for none."
            ) from error
        _served[port] = host


def listen(port: int, host: str) -> WSGIServer:
    """Serve this process's metrics until the server is shut down.

    Raises:
        OSError: the port is taken, or the address is not of this machine.
    """
    # A creation time beside each series would double what is stored for nothing.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return start_http_server(port, host)[0]
