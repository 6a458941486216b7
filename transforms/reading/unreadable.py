"""Partitions that stand still as they cannot be read: logged once, counted each time, shown meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from transforms import metrics
from transforms.brokers import Partition, Unreadable
from transforms.errors import TransientError

__all__ = ["Standstills"]

_log = logging.getLogger(__name__)

_FAILS_WITHIN = 60.0
"""Seconds; a reader tries again each second, and may have nothing to read once it succeeds."""


@dataclass
class _Standstill:
    """One partition with one error."""

    source: str
    since: float
    last: float


class Standstills:
    """Partitions of a reader that currently cannot be read. Used by the reader's thread only."""

    def __init__(self, name_of: Callable[[str], str]) -> None:
        """Args: name_of: returns the source's name of a topic, for the metrics."""
        self._name_of = name_of
        self._standing: dict[Partition, dict[str, _Standstill]] = {}
        self._away_since: float | None = None

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self._standing)

    def note(self, found: Iterable[Unreadable]) -> None:
        """Count each; log one line per partition and code, until the partition continues.

        One that has not failed again for a minute continues, also if it has no new messages.
        """
        for one in found:
            self._note(one)
        before = time.monotonic() - _FAILS_WITHIN
        for partition, codes in list(self._standing.items()):
            if max(one.last for one in codes.values()) < before:
                self._continues(partition)

    def _note(self, one: Unreadable) -> None:
        source, now = metrics.label(self._name_of(one.partition.topic)), time.monotonic()
        metrics.UNREADABLE.labels(source, str(one.partition.number), one.code).inc()
        codes = self._standing.setdefault(one.partition, {})
        if one.code in codes:
            codes[one.code].last = now
            return
        codes[one.code] = _Standstill(source, now, now)
        metrics.BLOCKED.labels(source, str(one.partition.number), one.code).inc()
        _log.warning(
            "cannot read %s from offset %d on, trying again until it succeeds, "
            "while other partitions continue: %s (%s)",
            _named(one.partition),
            one.position,
            one.reason,
            one.code,
        )

    def away(self, error: TransientError) -> None:
        """The broker as a whole gives nothing; said once, until something is read."""
        if self._away_since is None:
            self._away_since = time.monotonic()
            _log.warning("cannot read from the broker, trying again until it succeeds: %s", error)

    def given_up(self, one: Unreadable, last: int) -> str:
        """It is passed over.

        Returns:
            What is lost by that, in one sentence.
        """
        self.left(one.partition)
        lost = (
            f"{_named(one.partition)}, offsets {one.position} to {last}, "
            f"could not be read and were given up: {one.reason} ({one.code})"
        )
        _log.warning("%s", lost)
        return lost

    def passed(self, partition: Partition) -> None:
        """Something of the partition was read."""
        if self._away_since is not None:
            _log.warning("read from the broker again after %.0f s", time.monotonic() - self._away_since)
            self._away_since = None
        if partition in self._standing:
            self._continues(partition)

    def left(self, partition: Partition) -> float | None:
        """It is not read from here any more, or no longer fails.

        Returns:
            When it began to stand still, None if it did not.
        """
        codes = self._standing.pop(partition, {})
        for code, one in codes.items():
            metrics.BLOCKED.labels(one.source, str(partition.number), code).dec()
        return min((one.since for one in codes.values()), default=None)

    def close(self) -> None:
        """Nothing is read from here any more."""
        for partition in list(self._standing):
            self.left(partition)

    def _continues(self, partition: Partition) -> None:
        stood = time.monotonic() - (self.left(partition) or 0.0)
        _log.warning("%s continues after %.0f s", _named(partition), stood)


def _named(partition: Partition) -> str:
    return partition.topic if partition.number is None else f"{partition.topic} partition {partition.number}"
