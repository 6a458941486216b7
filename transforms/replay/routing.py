"""Routes each selected message to a topic and a lane."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms._columns import column, parts
from transforms.errors import ConfigurationError
from transforms.replay.options import Options
from transforms.replay.plans import LANES
from transforms.replay.restoring import origin_topic

__all__ = ["Router", "is_pattern", "lane_of"]

Ints = npt.NDArray[np.int64]

_BLOCK = 10_000
"""Rows that stay together if order does not matter, so that whole files are read instead of single rows."""
_FIELD = re.compile(r"\{([^{}]*)\}")
_FIELDS = {"{topic}", "{source}", "{origin}"}
_TOPIC = re.compile(r"_?[A-Za-z0-9][A-Za-z0-9._~+%-]{0,247}")
_MOST_TOPICS = 1000
_LOW = (1 << 32) - 1
"""Stands for no partition: partition numbers have 31 bits."""


def is_pattern(topic: str) -> bool:
    """Whether a destination's topic depends on the message."""
    return _FIELD.search(topic) is not None


def lane_of(source: str, partition: int | None) -> int:
    """The lane of a source partition, the same in every process."""
    return zlib.crc32(f"{source}/{partition}".encode()) % LANES


@dataclass
class Router:
    """Divides tables of a stream by topic and lane.

    Attributes:
        pattern: the destination's topic, which may contain ``{topic}``, ``{source}`` and ``{origin}``.
        options: with the order in which messages are sent.
        topics: topics found so far; lane number = index of the topic * LANES + lane in the topic.
    """

    pattern: str
    options: Options
    topics: list[str] = field(default_factory=list)
    _rows: int = 0

    def __post_init__(self) -> None:
        """Refuse a pattern that is not valid."""
        unknown = {f"{{{name}}}" for name in _FIELD.findall(self.pattern)} - _FIELDS
        if unknown:
            known = "{topic}, {source} and, with restore, {origin}"
            raise ConfigurationError(
                f"{self.pattern!r}: {', '.join(sorted(unknown))} is unknown; use {known}."
            )
        if "{origin}" in self.pattern and not self.options.restore:
            raise ConfigurationError("{origin} is the source of a dead letter: it needs restore.")

    @property
    def columns(self) -> set[str]:
        """Index columns needed only for routing."""
        return (
            ({"topic"} if "{topic}" in self.pattern else set())
            | ({"key"} if self.options.order == "key" else set())
            | ({"attributes"} if self.options.restore else set())
        )

    def divide(self, table: pa.Table) -> Iterator[tuple[str, int, pa.Table]]:
        """Topic, lane and rows; rows of one lane keep their order.

        Raises:
            ConfigurationError: the pattern yields an invalid topic, or too many topics.
        """
        lanes = self._order_lanes(table)
        if is_pattern(self.pattern):
            lanes = lanes + LANES * self._topic_numbers(table)
        elif not self.topics:
            self.topics.append(self.pattern)
        order = np.argsort(lanes, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(lanes[order])) + 1):
            lane = int(lanes[rows[0]])
            part = table if len(rows) == len(table) else table.take(pa.array(rows))
            yield self.topics[lane // LANES], lane, part
        self._rows += len(table)

    def _order_lanes(self, table: pa.Table) -> Ints:
        if self.options.order == "none":
            return (np.arange(self._rows, self._rows + len(table)) // _BLOCK) % LANES
        by_partition = _partition_lanes(table)
        if self.options.order == "partition":
            return by_partition
        keys = parts(column(table, "key"))
        return np.where(keys.valid, (keys.crcs() % np.uint64(LANES)).astype(np.int64), by_partition)

    def _topic_numbers(self, table: pa.Table) -> Ints:
        codes, names = _encoded(self._names(table))
        numbers = np.array([self._number(name) for name in names], np.int64)
        return numbers[codes]

    def _names(self, table: pa.Table) -> pa.Array:
        values = {
            "{topic}": lambda: column(table, "topic"),
            "{source}": lambda: column(table, "source"),
            "{origin}": lambda: self._origins(table),
        }
        pieces = re.split(r"(\{[^{}]*\})", self.pattern)
        filled = [values[piece]() if piece in values else piece for piece in pieces if piece]
        return pc.binary_join_element_wise(*filled, "", null_handling="emit_null")

    def _origins(self, table: pa.Table) -> pa.Array:
        topic: Callable[[str | None], str | None] = lambda name: (  # noqa: E731 - one use, nothing to document
            None if name is None else origin_topic(name, self.options.source_prefix)
        )
        encoded = pc.dictionary_encode(column(table, "origin"))
        return pa.array(list(map(topic, encoded.dictionary.to_pylist())), pa.string()).take(encoded.indices)

    def _number(self, name: str | None) -> int:
        if name is None:
            raise ConfigurationError(
                "Some of the messages are not dead letters (they have no header persistor-error-source): "
                "select dead letters only."
            )
        if name not in self.topics:
            self._check(name)
            self.topics.append(name)
        return self.topics.index(name)

    def _check(self, name: str) -> None:
        if not _TOPIC.fullmatch(name):
            raise ConfigurationError(f"{self.pattern!r} yields {name[:300]!r}, which is not a valid topic.")
        if len(self.topics) == _MOST_TOPICS:
            raise ConfigurationError(
                f"{self.pattern!r} yields more than {_MOST_TOPICS} topics: select fewer sources."
            )


def _partition_lanes(table: pa.Table) -> Ints:
    sources, names = _encoded(column(table, "source"))
    numbers = pc.fill_null(column(table, "partition").cast(pa.int64()), _LOW).to_numpy()
    pairs, places = np.unique((sources.astype(np.int64) << 32) + (numbers & _LOW), return_inverse=True)
    lanes = [_lane_of_pair(names[int(pair >> 32)] or "", int(pair & _LOW)) for pair in pairs]
    return np.array(lanes, np.int64)[places]


def _lane_of_pair(source: str, number: int) -> int:
    return lane_of(source, None if number == _LOW else number)


def _encoded(values: pa.Array) -> tuple[Ints, list[str | None]]:
    """The index of each value among the distinct values, in the order of their first occurrence."""
    encoded = pc.dictionary_encode(values, null_encoding="encode")
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
