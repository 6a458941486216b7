"""DeadLetters: the only transform that writes dead letters."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms import metrics, registry, stop
from transforms.bundles.outbox import Outbox
from transforms.entries import sizes
from transforms.lake import INTERNAL, Lake
from transforms.metrics.beam import report
from transforms.model import HEADERS, MESSAGE_SCHEMA, DeadLetter
from transforms.retry import retry

__all__ = ["DeadLetters", "dead_messages"]

_ROOM_FOR_HEADERS = 4096
_LONGEST_REASON = 1000
_FORMAT = "parquet"


@dataclass
class DeadLetters(beam.PTransform):
    """Publish dead letters unchanged, with headers that state the reason.

    Delivery: at least once, confirmed before the bundle succeeds. A message above the topic's
    limit is stored in the lake under ``_persistor/dead/``; its dead letter then has no data, and its
    header ``persistor-stored`` names that file.
    """

    url: str
    config: Mapping[str, str] = field(default_factory=dict)
    lake: str | None = None
    lake_config: Mapping[str, str] = field(default_factory=dict)

    def expand(self, letters: beam.PCollection[DeadLetter]) -> beam.PCollection[None]:
        """No output."""
        return letters | beam.ParDo(_Send(self.url, dict(self.config), self.lake, dict(self.lake_config)))


def dead_messages(letter: DeadLetter, stored: Mapping[int, str] | None = None) -> pa.Table:
    """The messages of a dead letter (``MESSAGE_SCHEMA``), with its headers after their own.

    ``persistor-error-stage``, ``-category``, ``-reason``, ``-source``, ``-position`` (the id) and
    ``-time`` (seconds since 1970). The reason contains no payload.

    Args:
        stored: rows with their data in a file of the lake instead, with that file's location.
    """
    stored = stored or {}
    messages = letter.messages.select(MESSAGE_SCHEMA.names)
    common = {
        "stage": letter.stage,
        "category": letter.category,
        "reason": letter.reason[:_LONGEST_REASON],
        "source": letter.source,
        "time": str(int(time.time())),
    }
    headers, data = [], messages["data"].to_pylist()
    rows = zip(messages["headers"].to_pylist(), messages["id"].to_pylist(), strict=True)
    for row, (own, id) in enumerate(rows):
        why = {f"persistor-error-{name}": text for name, text in {**common, "position": id or ""}.items()}
        if row in stored:
            why["persistor-stored"], data[row] = stored[row], None
        added = [(name, text.encode()) for name, text in why.items()]
        headers.append([(header["name"], header["value"]) for header in own or ()] + added)
    columns = {name: messages[name] for name in MESSAGE_SCHEMA.names}
    return pa.table(
        {**columns, "data": pa.array(data, pa.binary()), "headers": pa.array(headers, HEADERS)},
        schema=MESSAGE_SCHEMA,
    )


class _Send(beam.DoFn):
    def __init__(
        self, url: str, config: dict[str, str], lake: str | None, lake_config: dict[str, str]
    ) -> None:
        self._url = url
        self._config = config
        self._lake_arguments = (lake, lake_config) if lake else None

    def setup(self) -> None:
        self._outbox = Outbox("dead-letter", self._url, self._config)
        self._outbox.look_up()
        self._lake = Lake(*self._lake_arguments) if self._lake_arguments else None

    def start_bundle(self) -> None:
        self._outbox.forget()

    def process(self, letter: DeadLetter) -> None:
        limit = self._outbox.max_bytes
        stored = {}
        if self._lake is not None and limit is not None:
            stored = dict(_store_large(self._lake, letter.messages, limit - _ROOM_FOR_HEADERS))
        messages = dead_messages(letter, stored)
        self._outbox.send(messages)
        labels = metrics.label(letter.source), letter.stage, letter.category
        metrics.DEAD_LETTERS.labels(*labels).inc(len(messages))

    def finish_bundle(self) -> None:
        stop.noting_failures(self._outbox.confirm)()
        report()

    def teardown(self) -> None:
        self._outbox.close()


def _store_large(lake: Lake, messages: pa.Table, limit: int) -> Iterator[tuple[int, str]]:
    """Store rows above the limit; returns each with its location."""
    for row in np.flatnonzero(sizes(messages).to_numpy() > limit).tolist():
        message = messages.slice(row, 1)
        digest = hashlib.sha256(message["id"][0].as_py().encode()).hexdigest()[:32]
        path = f"{INTERNAL}dead/{digest}.{_FORMAT}"
        data = registry.format_of(_FORMAT).encode(message)
        retry(
            functools.partial(lake.put_new, path, data),
            "store a dead letter",
            on_retry=metrics.RETRIES.labels("lake").inc,
            stopped=stop.stopping,
        )
        yield row, lake.location(path)
