"""The persist job: topics → files in the lake → index and metadata topic, acknowledged at the end."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam

from pipelines.runners import streaming
from pipelines.settings.streaming import PersistSettings
from transforms.dead_letters import DeadLetters
from transforms.index_entries import IndexEntries, PublishMetadata
from transforms.memory import Bound
from transforms.metrics.workers import Exposition
from transforms.read_batches import ReadBatches
from transforms.reading.buffers import Limits
from transforms.reading.sinks import Sinks
from transforms.reading.source import Source
from transforms.write_files import WriteFiles

__all__ = ["build", "run"]


def run(settings: PersistSettings, beam_arguments: Sequence[str] = ()) -> int:
    """Archive until the process is asked to stop; open batches are then written first.

    Returns:
        The exit code, 0 after a clean stop.

    Raises:
        ConfigurationError: the job cannot run with these settings.
        PermanentError: the job had to stop; all acknowledged messages are durable.
    """
    return streaming.run_streaming(build, settings, beam_arguments)


def build(
    pipeline: beam.Pipeline,
    settings: PersistSettings,
    shards: Sequence[int],
    of: int,
    exposition: Exposition | None = None,
) -> None:
    """Add the job to a pipeline; see :class:`ReadBatches`."""
    # Nobody knows how many of the shards a runner gives to one process.
    bound = Bound(settings.memory, len(shards))
    batches = pipeline | ReadBatches(_source(settings, bound), tuple(shards), of, exposition)
    files = batches | "WriteFiles" >> WriteFiles(
        settings.lake,
        settings.lake_config,
        dead_letters=settings.dead_letter is not None,
        give_up_after=settings.give_up_after,
        entries=bool(settings.index or settings.metadata),
        skip_replayed=settings.skip_replayed,
        bound=bound,
    )
    if settings.index:
        _ = files.written | "IndexEntries" >> IndexEntries(settings.index)
    if settings.metadata:
        _ = files.written | "PublishMetadata" >> PublishMetadata(settings.metadata, settings.metadata_config)
    if settings.dead_letter:
        _ = files.dead | "DeadLetters" >> DeadLetters(
            settings.dead_letter, settings.dead_letter_config, settings.lake, settings.lake_config
        )


def _source(settings: PersistSettings, bound: Bound) -> Source:
    own_topics = [url.rpartition("/")[2] for url in (settings.metadata, settings.dead_letter) if url]
    return Source(
        settings.source,
        settings.source_config,
        prefix=settings.source_prefix,
        exclude=(*settings.exclude, *own_topics),
        lake=settings.lake,
        lake_config=settings.lake_config,
        layout=settings.layout,
        limits=Limits(settings.batch_messages, min(settings.batch_bytes, bound.batch), settings.batch_age),
        give_up_after=settings.give_up_after,
        skip=settings.skip,
        bound=bound,
        purpose=settings.purpose,
        sinks=Sinks(settings.index, settings.metadata),
    )
