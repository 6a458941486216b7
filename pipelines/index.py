"""The index job: a metadata topic → the index store."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam

from pipelines.runners import streaming
from pipelines.settings.streaming import IndexSettings
from transforms.dead_letters import DeadLetters
from transforms.index_entries import IndexEntries, ReadMetadata
from transforms.memory import Bound
from transforms.metrics.workers import Exposition
from transforms.read_batches import ReadBatches
from transforms.reading.buffers import Limits
from transforms.reading.source import Source

__all__ = ["build", "run"]

# A metadata message holds a file's entries: a few make a batch, and none should wait.
_LIMITS = Limits(messages=100, bytes=8 * 2**20, age=0.2)


def run(settings: IndexSettings, beam_arguments: Sequence[str] = ()) -> int:
    """Index until the process is asked to stop.

    Delivery: a metadata message is acknowledged once its entries are durable in the index.

    Returns:
        The exit code, 0 after a clean stop.

    Raises:
        ConfigurationError: the job cannot run with these settings.
        PermanentError: a message is not metadata and there is no dead-letter topic, or an id is already
            indexed for another message.
    """
    return streaming.run_streaming(build, settings, beam_arguments)


def build(
    pipeline: beam.Pipeline,
    settings: IndexSettings,
    shards: Sequence[int],
    of: int,
    exposition: Exposition | None = None,
) -> None:
    """Add the job to a pipeline; see :class:`ReadBatches`."""
    source = Source(
        settings.metadata,
        settings.metadata_config,
        limits=_LIMITS,
        bound=Bound(settings.memory, len(shards)),
        skip=settings.skip,
        purpose=settings.purpose,
    )
    batches = pipeline | ReadBatches(source, tuple(shards), of, exposition)
    read = batches | "ReadMetadata" >> ReadMetadata(dead_letters=settings.dead_letter is not None)
    _ = read.entries | "IndexEntries" >> IndexEntries(settings.index)
    if settings.dead_letter:
        _ = read.dead | "DeadLetters" >> DeadLetters(settings.dead_letter, settings.dead_letter_config)
