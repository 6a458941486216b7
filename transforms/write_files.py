"""WriteFiles: Batch → WrittenFile, and DeadLetter for messages that cannot be written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from transforms.bundles.coders import carrying
from transforms.bundles.overlap import Overlap
from transforms.lake import Lake
from transforms.memory import BOUND, Bound
from transforms.metrics.beam import report
from transforms.model import Batch, DeadLetter, WrittenFile
from transforms.stop import noting_failures
from transforms.writing import BatchWriter

__all__ = ["DEAD", "WriteFiles"]

DEAD = "dead"
"""Tag of the output with the dead letters."""

_THREADS = 4


@dataclass
class WriteFiles(beam.PTransform):
    """Write batches as files; outputs ``written`` (main) and ``dead``. See :class:`BatchWriter`.

    Uploads overlap with reading and encoding, as far as memory goes; a bundle succeeds only when all its
    files are durable.
    """

    lake: str
    lake_config: Mapping[str, str] = field(default_factory=dict)
    dead_letters: bool = False
    give_up_after: float | None = None
    entries: bool = True
    skip_replayed: bool = False
    bound: Bound = BOUND

    def expand(self, batches: beam.PCollection[Batch]) -> Any:
        """Two outputs: ``outputs.written`` and ``outputs.dead``."""
        how = self.dead_letters, self.give_up_after, self.entries, self.skip_replayed
        write = _Write(self.lake, dict(self.lake_config), self.bound.writing, *how)
        typed = carrying(beam.ParDo(write), WrittenFile, dead=DeadLetter)
        return batches | typed.with_outputs(DEAD, main="written")


class _Write(beam.DoFn):
    def __init__(self, lake: str, lake_config: dict[str, str], most_bytes: int, *how: Any) -> None:
        self._lake, self._lake_config, self._most_bytes, self._how = lake, lake_config, most_bytes, how

    def setup(self) -> None:
        writer = BatchWriter(Lake(self._lake, self._lake_config), *self._how)
        write = noting_failures(writer.write)
        self._overlap: Overlap[Batch, Any] = Overlap(write, _THREADS, self._most_bytes)

    def start_bundle(self) -> None:
        self._overlap.abandon()

    def process(self, batch: Batch) -> Iterator[Any]:
        for files, dead in self._overlap.add(batch, 2 * batch.messages.nbytes):  # and its files
            yield from _outputs(files, dead)

    def finish_bundle(self) -> Iterator[Any]:
        window = GlobalWindow()
        for files, dead in self._overlap.finish():
            for output in _outputs(files, dead):
                tagged = isinstance(output, beam.pvalue.TaggedOutput)
                value = WindowedValue(output.value if tagged else output, window.max_timestamp(), (window,))
                yield beam.pvalue.TaggedOutput(DEAD, value) if tagged else value
        report()

    def teardown(self) -> None:
        self._overlap.close()


def _outputs(files: list[WrittenFile], dead: list[DeadLetter]) -> Iterator[Any]:
    yield from files
    for letter in dead:
        yield beam.pvalue.TaggedOutput(DEAD, letter)
