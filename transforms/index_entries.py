"""IndexEntries, PublishMetadata and ReadMetadata: move the entries of written files to the index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import pyarrow as pa

from transforms import metadata, metrics, registry, stop
from transforms.bundles.coders import carrying
from transforms.bundles.outbox import Outbox
from transforms.bundles.overlap import Overlap
from transforms.errors import PermanentError
from transforms.indexes import ConflictError, Index
from transforms.metrics.beam import report
from transforms.model import Batch, DeadLetter, WrittenFile
from transforms.retry import retry

__all__ = ["DEAD", "IndexEntries", "PublishMetadata", "ReadMetadata"]

DEAD = "dead"
"""Tag of the output with the dead letters."""

_THREADS = 2
_ENTRIES_AT_ONCE = 10_000
_MOST_BYTES = 16 * 2**20


@dataclass
class IndexEntries(beam.PTransform):
    """Insert the entries of files (or tables of entries) into an index store.

    Delivery: a bundle succeeds only when all its entries are durable. Inserting again changes nothing. An
    id that is already indexed for another message stops the job; it is never ignored.
    """

    index: str

    def expand(self, files: beam.PCollection[WrittenFile | pa.Table]) -> beam.PCollection[None]:
        """No output."""
        return files | beam.ParDo(_Insert(self.index))


@dataclass
class PublishMetadata(beam.PTransform):
    """Publish the entries of files as metadata messages; see :mod:`transforms.metadata`.

    Delivery: at least once, confirmed before the bundle succeeds.
    """

    url: str
    config: Mapping[str, str] = field(default_factory=dict)

    def expand(self, files: beam.PCollection[WrittenFile]) -> beam.PCollection[None]:
        """No output."""
        return files | beam.ParDo(_Publish(self.url, dict(self.config)))


@dataclass
class ReadMetadata(beam.PTransform):
    """Decode batches of metadata messages into entries; other messages go to the output ``dead``."""

    dead_letters: bool = False

    def expand(self, batches: beam.PCollection[Batch]) -> Any:
        """Two outputs: ``outputs.entries`` and ``outputs.dead``."""
        decode = carrying(beam.ParDo(_Decode(self.dead_letters)), pa.Table, dead=DeadLetter)
        return batches | decode.with_outputs(DEAD, main="entries")


class _Insert(beam.DoFn):
    def __init__(self, url: str) -> None:
        self._url = url

    def setup(self) -> None:
        self._index: Index = registry.index(self._url).open(self._url)
        self._gathered: dict[str, list[pa.Table]] = {}
        self._rows = 0
        self._overlap: Overlap[pa.Table, int] = Overlap(
            stop.noting_failures(self._insert), _THREADS, _MOST_BYTES
        )

    def start_bundle(self) -> None:
        self._gathered, self._rows = {}, 0
        self._overlap.abandon()

    def process(self, file: WrittenFile | pa.Table) -> None:
        entries = file.entries if isinstance(file, WrittenFile) else file
        # Of small files together: a store takes as long for one entry as for many.
        self._gathered.setdefault(entries["source"][0].as_py(), []).append(entries)
        self._rows += len(entries)
        if self._rows >= _ENTRIES_AT_ONCE:
            self._start()

    def _start(self) -> None:
        gathered, self._gathered, self._rows = self._gathered, {}, 0
        for tables in gathered.values():
            entries = pa.concat_tables(tables).combine_chunks()
            for _ in self._overlap.add(entries, entries.nbytes):
                pass  # the store has them

    def finish_bundle(self) -> None:
        self._start()
        for _ in self._overlap.finish():
            pass  # the store has them
        report()

    def teardown(self) -> None:
        self._overlap.close()
        self._index.close()

    def _insert(self, entries: pa.Table) -> int:
        source = metrics.label(entries["source"][0].as_py())
        try:
            with metrics.timed(metrics.INDEX_SECONDS):
                inserted = retry(
                    lambda: self._index.insert(entries),
                    "insert into the index",
                    on_retry=metrics.RETRIES.labels("index").inc,
                    stopped=stop.stopping,
                )
        except ConflictError as error:
            metrics.CONFLICTS.labels(source).inc(len(error.ids))
            advice = "docs/explanation/failures.md, Conflicts, explains the cause and what to do"
            raise PermanentError(f"source {source!r}: {error}; {advice}") from error
        metrics.INDEXED.labels(source).inc(inserted)
        return inserted


class _Publish(beam.DoFn):
    def __init__(self, url: str, config: dict[str, str]) -> None:
        self._arguments = url, config

    def setup(self) -> None:
        self._outbox = Outbox("metadata", *self._arguments)

    def start_bundle(self) -> None:
        self._outbox.forget()

    def process(self, file: WrittenFile) -> None:
        self._outbox.send(metadata.encode(file))

    def finish_bundle(self) -> None:
        stop.noting_failures(self._outbox.confirm)()
        report()

    def teardown(self) -> None:
        self._outbox.close()


class _Decode(beam.DoFn):
    def __init__(self, dead_letters: bool) -> None:
        self._dead_letters = dead_letters

    def process(self, batch: Batch) -> Iterator[Any]:
        tables: list[pa.Table] = []
        for row in range(len(batch.messages)):
            message = batch.messages.slice(row, 1)
            try:
                tables.append(_entries(message))
            except PermanentError as error:
                yield beam.pvalue.TaggedOutput(DEAD, self._dead(batch.source, message, error))
            if sum(map(len, tables)) >= _ENTRIES_AT_ONCE:
                yield pa.concat_tables(tables)
                tables = []
        if any(map(len, tables)):
            yield pa.concat_tables(tables)

    def _dead(self, source: str, message: pa.Table, error: PermanentError) -> DeadLetter:
        if not self._dead_letters:
            id = message["id"][0].as_py()
            advice = "name a `dead_letter` topic for such messages"
            fatal = PermanentError(f"message {id} cannot be indexed, {error}; {advice}")
            stop.note_failure(fatal)
            raise fatal
        return DeadLetter(source, "index", "permanent", str(error), message)


def _entries(message: pa.Table) -> pa.Table:
    [row] = message.select(["data", "headers"]).to_pylist()
    return metadata.decode(row["data"] or b"", row["headers"] or [])
