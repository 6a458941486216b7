"""Partitions that stand still because they cannot be read: logged once, counted each time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from transforms import metrics
from transforms.brokers import Partition, Unreadable
from transforms.errors import TransientError

__all__ = ["Standstills"]

_log = logging.getLogger(__name__)


class Standstills:
    """Partitions of a reader that currently cannot be read. Used by the reader's thread only."""

    def __init__(self, name_of: Callable[[str], str]) -> None:
        """Args: name_of: returns the source's name of a topic, for the metrics."""
        self._name_of = name_of
        self._standing: dict[Partition, dict[str, float]] = {}
        self._away_since: float | None = None

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self._standing)

    def note(self, found: Iterable[Unreadable]) -> None:
        """Count each; log one line per partition and code, until the partition continues."""
        for one in found:
            source = metrics.label(self._name_of(one.partition.topic))
            metrics.UNREADABLE.labels(source, str(one.partition.number), one.code).inc()
            codes = self._standing.setdefault(one.partition, {})
            if one.code not in codes:
                codes[one.code] = time.monotonic()
                _log.warning(
                    "cannot read %s partition %s from offset %d on, trying again until it succeeds, "
                    "while other partitions continue: %s (%s)",
                    one.partition.topic,
                    one.partition.number,
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
        self._standing.pop(one.partition, None)
        lost = (
            f"{one.partition.topic} partition {one.partition.number}, offsets {one.position} to {last}, "
            f"could not be read and were given up: {one.reason} ({one.code})"
        )
        _log.warning("%s", lost)
        return lost

    def passed(self, partition: Partition) -> None:
        """Something of the partition was read."""
        if self._away_since is not None:
            _log.warning("read from the broker again after %.0f s", time.monotonic() - self._away_since)
            self._away_since = None
        codes = self._standing.pop(partition, None)
        if codes:
            stood = time.monotonic() - min(codes.values())
            _log.warning("%s partition %s continues after %.0f s", partition.topic, partition.number, stood)
