"""``persistor doctor``: checks the servers and files in a command's settings, and reports what to fix."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import datetime, timezone

from pipelines.connections import (
    Connecting,
    addresses,
    brokers_of,
    destination_of,
    index_of,
    lakes_of,
    source_of,
    topics_of,
)
from pipelines.doctor.findings import ALLOW, Finding, tried
from pipelines.doctor.lake import SLOW, examine_lake
from pipelines.doctor.reading import examine_reading
from pipelines.settings.streaming import PersistSettings, Streaming
from pipelines.terminal.text import counted
from transforms import registry
from transforms.brokers import Destination, Partition, Reader
from transforms.errors import ConfigurationError, TransientError
from transforms.metrics import host
from transforms.reading.source import Source
from transforms.retry import retry

__all__ = ["HELP", "examine"]

HELP = """usage: persistor doctor COMMAND [--config FILE] [--SETTING VALUE ...]

Check the settings of a command and report what to fix: connections and permissions of broker, lake and
index, retention against the age of batches, clocks, disks, certificates. Nothing is archived or sent; for
a command that writes, a small object is created in the lake and deleted again.
Run it as the user that the command will run as.

example:
  persistor doctor persist --config persist.yaml

Exit code: 0 nothing to fix, 1 something to fix, 2 the settings themselves are not valid."""
_LITTLE_SPACE = 0.1
_SOON = 30
_NO_TOPIC = "persistor-doctor"
_DAY = 86_400
_COORDINATOR_WITHIN = 5.0
_INDEX_AGE = 1.0
"""Seconds for which index keeps a batch open."""


def examine(settings: Connecting) -> Iterator[Finding]:
    """Check everything in a command's settings; nothing is archived, sent or left behind.

    If the command writes, an object below ``_persistor/doctor/`` in the lake is written, read and
    deleted. Nothing is published.

    Args:
        settings: of any command (``pipelines.settings.declared``).
    """
    if source := source_of(settings):
        yield from tried("source", _examine_source, settings, *source)
    for url, config in lakes_of(settings):
        yield from tried("lake", examine_lake, url, config, settings.command)
    if index := index_of(settings):
        yield from tried("index", _examine_index, index)
    for name, url, config in topics_of(settings):
        yield from tried(name, _examine_topic, name, url, config)
    for name, (url, config) in brokers_of(settings).items():
        yield from tried("destination", _examine_broker, name, url, config)
    yield from _examine_surroundings(settings)


def _examine_source(
    settings: Streaming, url: str, config: Mapping[str, str], exclude: Sequence[str]
) -> Iterator[Finding]:
    group = Source(url, purpose=settings.purpose).group
    reader = registry.broker(url).open_reader(url, config, group=group, exclude=exclude)
    with contextlib.closing(reader):
        partitions = list(reader.discover())
        topics = sorted({partition.topic for partition in partitions})
        shown = ", ".join(topics[:5]) + (" and others" if len(topics) > 5 else "")
        if not partitions:
            said = "No topic matches now."
            yield Finding("source", "care", said, "Topics that appear later are read; check the pattern.")
            return
        many = f"{counted(len(topics), 'topic')}, {counted(len(partitions), 'partition')}"
        yield Finding("source", "fine", f"{many}: {shown}. {reader.way}".rstrip())
        yield _progress(reader, group, partitions[0])
        yield from _examine_spread(settings, partitions)
        readable = True
        try:
            readable = yield from _examine_topics(reader, partitions)
            yield from _examine_retention(settings, reader, partitions)
        except ConfigurationError as error:
            said = f"Retention and compaction are not checked: {error}"
            yield Finding("retention", "care", said, "Kafka shows them to users with DESCRIBE_CONFIGS.")
        if readable:
            yield from examine_reading(reader, partitions)


def _progress(reader: Reader, group: str, partition: Partition) -> Finding:
    try:
        # A group that is new to its cluster has no coordinator for a moment.
        retry(
            lambda: reader.committed([partition]),
            "look up the group's progress",
            give_up_after=_COORDINATOR_WITHIN,
        )
    except (ConfigurationError, TransientError) as error:
        remedy = "Grant this user the right to read it: on Kafka, READ on the group."
        return Finding("progress", "wrong", f"The progress of group {group} cannot be read: {error}", remedy)
    return Finding("progress", "fine", f"The progress of group {group} can be read.")


def _examine_topics(reader: Reader, partitions: Sequence[Partition]) -> Generator[Finding, None, bool]:
    """Returns whether all of them can be read."""
    readable = True
    for partition in {p.topic: p for p in partitions}.values():
        problems, warnings = reader.examine(partition)
        readable = readable and not problems
        yield from (Finding("source", "wrong", problem, ALLOW) for problem in problems)
        yield from (Finding("source", "care", warning) for warning in warnings)
    return readable


def _examine_spread(settings: Streaming, partitions: Sequence[Partition]) -> Iterator[Finding]:
    processes = max(settings.processes, settings.shard[1])
    if processes > len(partitions) and partitions[0].number is not None:
        idle = processes - len(partitions)
        said = f"{processes} processes share {counted(len(partitions), 'partition')}: {idle} stay idle."
        yield Finding("processes", "care", said, "Use at most as many processes as partitions.")


def _examine_retention(
    settings: Streaming, reader: Reader, partitions: Sequence[Partition]
) -> Iterator[Finding]:
    age = settings.batch_age if isinstance(settings, PersistSettings) else _INDEX_AGE
    kept = {
        topic: reader.retention(partition) for topic, partition in {p.topic: p for p in partitions}.items()
    }
    short = {topic: seconds for topic, seconds in kept.items() if seconds is not None and seconds < 3600}
    for topic, seconds in sorted(short.items()):
        level = "wrong" if seconds < 10 * age else "care"
        said = f"{topic} keeps messages for {seconds:.0f} s, and a batch may stay open for {age:.0f} s."
        remedy = "Messages not archived within that time are lost: keep messages for a day or more."
        yield Finding("retention", level, said, remedy)
    if not short:
        least = min((seconds for seconds in kept.values() if seconds is not None), default=None)
        how_long = "for ever" if least is None else f"for {least / 3600:.0f} h or longer"
        yield Finding(
            "retention", "fine", f"Messages are kept {how_long}: archiving may stand still for that long."
        )


def _examine_index(url: str) -> Iterator[Finding]:
    if new := _new_file(url):
        yield new
        return
    index = registry.index(url).open(url)
    with contextlib.closing(index):
        started = time.monotonic()
        index.ping()
        seconds, sources = time.monotonic() - started, index.sources()
        known = f"it has {counted(len(sources), 'source')}."
        yield Finding("index", "fine", f"It answers in {seconds * 1000:.0f} ms; {known}")
        if seconds > SLOW:
            yield Finding("index", "care", "It answers slowly.", "Check its distance and its load.")


def _new_file(url: str) -> Finding | None:
    """Check the directory of a missing index file, because a file created here would belong to this user."""
    path = registry.index_file(url)
    if path is None or "${" in url or path.exists():
        return None
    there = next(one for one in path.parents if one.exists())
    if os.access(there, os.W_OK | os.X_OK):
        return Finding("index", "fine", f"{path} does not exist yet; {there} is writable.")
    return Finding("index", "wrong", f"{path} cannot be created: {there} is not writable.", ALLOW)


def _examine_topic(name: str, url: str, config: Mapping[str, str]) -> Iterator[Finding]:
    found = destination_of(url, config)
    for problem in found.problems:
        yield Finding(name, "wrong", problem)
    for warning in (*found.warnings, *(found.for_jobs if name == "destination" else ())):
        yield Finding(name, "care", warning)
    if name == "metadata":
        yield from _examine_metadata(found)
    if not found.problems:
        partitions = "" if found.partitions is None else f", {counted(found.partitions, 'partition')},"
        yield Finding(name, "fine", f"{found.topic}{partitions} can be written to.")


def _examine_metadata(found: Destination) -> Iterator[Finding]:
    if found.compacted:
        said = f"{found.topic} is compacted: only the last entries of a large file are kept."
        yield Finding("metadata", "wrong", said, "Set its cleanup.policy to delete.")
    kept = time.time() - (found.oldest_kept_us or 0) / 1e6
    if kept < _DAY:
        said = (
            f"{found.topic} keeps messages for {kept / 3600:.1f} h: what is not indexed by then is not found."
        )
        yield Finding("metadata", "care", said, "Keep them for a week, or plan to use persistor rebuild.")


def _examine_broker(name: str, url: str, config: Mapping[str, str]) -> Iterator[Finding]:
    """Check the broker alone: requests name its topics, so a missing topic is fine here."""
    problems = destination_of(f"{url.rstrip('/')}/{_NO_TOPIC}", config).problems
    for problem in problems:
        if _NO_TOPIC not in problem:
            yield Finding("destination", "wrong", f"{name}: {problem}")
    if all(_NO_TOPIC in problem for problem in problems):
        yield Finding("destination", "fine", f"{name} answers.")


def _examine_surroundings(settings: Connecting) -> Iterator[Finding]:
    urls, configs = addresses(settings)
    for directory in host.directories(urls):
        free, size = host.space(directory)
        said = f"{directory}: {free / 2**30:.1f} GiB of {size / 2**30:.0f} GiB are free."
        few = free / size < _LITTLE_SPACE
        remedy = "Free some space: a full disk stops archiving." if few else ""
        yield Finding("disk", "care" if few else "fine", said, remedy)
    for file in host.certificates(urls, configs):
        yield _certificate(file, host.expiry(file))


def _certificate(file: str, expires: datetime | None) -> Finding:
    if expires is None:
        return Finding(
            "certificate", "wrong", f"{file} cannot be read.", "Is it a PEM file that this user may read?"
        )
    days = (expires - datetime.now(timezone.utc)).days
    said = f"{file} is valid until {expires:%Y-%m-%d}."
    if days >= _SOON:
        return Finding("certificate", "fine", said)
    return Finding("certificate", "wrong" if days < 0 else "care", said, "Renew it.")
