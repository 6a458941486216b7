"""``persistor doctor``: tries what a command's settings name, and says what to fix."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.settings import connections
from pipelines.shown import counted, visible
from pipelines.startup import destination_of, open_lake, source_of, topics_of
from transforms import registry, surroundings
from transforms.brokers import Partition, Reader
from transforms.errors import ConfigurationError, PersistorError
from transforms.lake import INTERNAL, Lake

__all__ = ["HELP", "Finding", "examine", "show"]

HELP = """usage: persistor doctor COMMAND [--config FILE] [--SETTING VALUE ...]

Try what the settings of a command name, and say what to fix: connections and permissions of broker, lake and
index, retention against the age of batches, clocks, disks, certificates. Nothing is archived or sent; where
the command writes, a small object is created in the lake and deleted again.

example:
  persistor doctor persist --config persist.yaml

Exit code: 0 nothing to fix, 1 something to fix, 2 the settings themselves are wrong."""
_SKEW = 30.0
_SLOW = 0.25
_LITTLE_SPACE = 0.1
_SOON = 30
_NO_TOPIC = "persistor-doctor"
_WRITING = ("persist", "plan", "resubmit", "api")
_MARKS = {"fine": ("ok", "green"), "care": ("!", "yellow"), "wrong": ("x", "red")}


@dataclass(frozen=True)
class Finding:
    """What was tried and how it went.

    Attributes:
        what: was looked at, such as ``source``.
        level: ``fine``, ``care`` (works, and may not for ever) or ``wrong``.
        said: what was found, in a sentence.
        remedy: what to do about it.
    """

    what: str
    level: str
    said: str
    remedy: str = ""


def examine(settings: Any) -> Iterator[Finding]:
    """Try everything that a command's settings name; nothing is archived, sent or left behind.

    In the lake an object below ``_persistor/doctor/`` is written, read and deleted where the command
    writes; nothing is published.

    Args:
        settings: of any command (``pipelines.settings``).
    """
    if source := source_of(settings):
        yield from _tried("source", _examine_source, settings, *source)
    for url in _lakes(settings):
        yield from _tried("lake", _examine_lake, url, settings.lake_config, settings.command in _WRITING)
    if getattr(settings, "index", None):
        yield from _tried("index", _examine_index, settings.index)
    for name, url, config in topics_of(settings):
        yield from _tried(name, _examine_topic, name, url, config)
    for name, broker in getattr(settings, "destinations", {}).items():
        yield from _tried("destination", _examine_broker, name, broker.url, broker.config)
    yield from _examine_surroundings(settings)


def show(findings: Iterator[Finding]) -> int:
    """Print findings as they come, and then what to do.

    Returns:
        The exit code: 0 where nothing is wrong, else 1.
    """
    out, told = Console(highlight=False), list[Finding]()
    for finding in findings:
        if out.is_terminal:
            out.print(_row(finding))
        else:
            print("\t".join(_words(finding)), flush=True)
        told.append(finding)
    wrong = sum(finding.level == "wrong" for finding in told)
    care = sum(finding.level == "care" for finding in told)
    out.print(f"{len(told)} checks: {wrong} to fix, {care} to watch.")
    return int(wrong > 0)


def _row(finding: Finding) -> Table:
    mark, style = _MARKS[finding.level]
    row = Table.grid(padding=(0, 1))
    row.add_column(width=2)
    row.add_column(width=12)
    row.add_column(overflow="fold")
    remedy = f"\n-> {finding.remedy}" if finding.remedy else ""
    row.add_row(Text(mark, style=style), finding.what, Text(finding.said + remedy))
    return row


def _words(finding: Finding) -> tuple[str, ...]:
    """Mark, what was looked at, and what was found with its remedy: for pipes and logs."""
    remedy = f" -> {finding.remedy}" if finding.remedy else ""
    return _MARKS[finding.level][0], finding.what, visible(finding.said + remedy)


def _tried(what: str, examination: Any, *arguments: Any) -> Iterator[Finding]:
    """What an examination finds; where it cannot go on, that is a finding too."""
    try:
        yield from examination(*arguments)
    except ConfigurationError as error:
        for problem in error.problems:
            yield Finding(what, "wrong", problem)
    except PersistorError as error:
        remedy = "Is it running, and reachable from here? Check address, network and credentials."
        yield Finding(what, "wrong", f"It does not answer: {error}.", remedy)


def _lakes(settings: Any) -> Sequence[str]:
    return getattr(settings, "lakes", None) or [url for url in [getattr(settings, "lake", None)] if url]


def _examine_source(
    settings: Any, url: str, config: Mapping[str, str], exclude: Sequence[str]
) -> Iterator[Finding]:
    reader = registry.broker(url).open_reader(url, config, group="persistor-doctor", exclude=exclude)
    with contextlib.closing(reader):
        partitions = list(reader.discover())
        topics = sorted({partition.topic for partition in partitions})
        shown = ", ".join(topics[:5]) + (" and others" if len(topics) > 5 else "")
        if not partitions:
            said = "No topic matches now."
            yield Finding("source", "care", said, "Those that appear later are read; check the pattern.")
            return
        many = f"{counted(len(topics), 'topic')}, {counted(len(partitions), 'partition')}"
        yield Finding("source", "fine", f"{many}: {shown}.")
        reader.committed(partitions[0])
        yield Finding("progress", "fine", "The group's progress can be read.")
        yield from _examine_spread(settings, partitions)
        yield from _examine_retention(settings, reader, partitions)


def _examine_spread(settings: Any, partitions: Sequence[Partition]) -> Iterator[Finding]:
    processes = max(settings.processes, settings.shard[1])
    if processes > len(partitions) and partitions[0].number is not None:
        idle = processes - len(partitions)
        said = f"{processes} processes share {counted(len(partitions), 'partition')}: {idle} stay idle."
        yield Finding("processes", "care", said, "Use as many processes as partitions at most.")


def _examine_retention(settings: Any, reader: Reader, partitions: Sequence[Partition]) -> Iterator[Finding]:
    age = getattr(settings, "batch_age", 1.0)
    kept = {
        topic: reader.retention(partition) for topic, partition in {p.topic: p for p in partitions}.items()
    }
    short = {topic: seconds for topic, seconds in kept.items() if seconds is not None and seconds < 3600}
    for topic, seconds in sorted(short.items()):
        level = "wrong" if seconds < 10 * age else "care"
        said = f"{topic} keeps messages for {seconds:.0f} s, and a batch may stay open for {age:.0f} s."
        remedy = "What is not archived within that time is lost: keep messages for a day or more."
        yield Finding("retention", level, said, remedy)
    if not short:
        least = min((seconds for seconds in kept.values() if seconds is not None), default=None)
        told = "for ever" if least is None else f"for {least / 3600:.0f} h or longer"
        yield Finding("retention", "fine", f"Messages are kept {told}: as long may archiving stand still.")


def _examine_lake(url: str, config: Mapping[str, str], writes: bool) -> Iterator[Finding]:
    lake = open_lake(url, config)
    yield Finding("lake", "fine", f"{url} can be listed.")
    if writes:
        yield from _examine_writing(lake)


def _examine_writing(lake: Lake) -> Iterator[Finding]:
    path, content = f"{INTERNAL}doctor/{uuid.uuid4().hex}", b"written by persistor doctor"
    started = time.time()
    lake.put_new(path, content)
    seconds = time.time() - started
    try:
        replaced, unchanged = lake.put_new(path, content), bytes(lake.get(path)) == content
        clock = _clock(lake.modified(path).timestamp(), started, time.time())
    finally:
        lake.delete(path)
    if replaced:
        remedy = "Persistor would lose messages here: use a store with conditional writes."
        yield Finding("lake", "wrong", "The store overwrote an object that was to be created only.", remedy)
    elif not unchanged:
        yield Finding("lake", "wrong", "The store gave back something else than was written.")
    else:
        yield _written(seconds)
    yield clock


def _written(seconds: float) -> Finding:
    took = f"{seconds * 1000:.0f} ms"
    said = f"Objects can be created once, read and deleted; a small one is written in {took}."
    if seconds < 4 * _SLOW:
        return Finding("lake", "fine", said)
    return Finding("lake", "care", said, "Larger batches, or a lake that is nearer, keep the rate up.")


def _clock(written: float, earliest: float, latest: float) -> Finding:
    # Stores tell whole seconds.
    skew = max(earliest - 1 - written, written - latest, 0.0)
    said = f"This machine's clock and the store's differ by {skew:.0f} s."
    if skew < _SKEW:
        return Finding("clock", "fine", said)
    remedy = "Let both follow a time server: signed requests are refused, and leases of jobs misjudged."
    return Finding("clock", "wrong", said, remedy)


def _examine_index(url: str) -> Iterator[Finding]:
    index = registry.index(url).open(url)
    with contextlib.closing(index):
        started = time.monotonic()
        index.ping()
        seconds, sources = time.monotonic() - started, index.sources()
        known = f"it knows {counted(len(sources), 'source')}."
        yield Finding("index", "fine", f"It answers in {seconds * 1000:.0f} ms; {known}")
        if seconds > _SLOW:
            yield Finding("index", "care", "It answers slowly.", "Is it far away, or busy?")


def _examine_topic(name: str, url: str, config: Mapping[str, str]) -> Iterator[Finding]:
    found = destination_of(url, config)
    for problem in found.problems:
        yield Finding(name, "wrong", problem)
    for warning in found.warnings:
        yield Finding(name, "care", warning)
    if not found.problems:
        partitions = "" if found.partitions is None else f", {counted(found.partitions, 'partition')},"
        yield Finding(name, "fine", f"{found.topic}{partitions} can be written to.")


def _examine_broker(name: str, url: str, config: Mapping[str, str]) -> Iterator[Finding]:
    """Its topics are named by requests: that this one is not there is as it should be."""
    problems = destination_of(f"{url.rstrip('/')}/{_NO_TOPIC}", config).problems
    for problem in problems:
        if _NO_TOPIC not in problem:
            yield Finding("destination", "wrong", f"{name}: {problem}")
    if all(_NO_TOPIC in problem for problem in problems):
        yield Finding("destination", "fine", f"{name} answers.")


def _examine_surroundings(settings: Any) -> Iterator[Finding]:
    urls, configs = connections(settings)
    for directory in surroundings.directories(urls):
        free, size = surroundings.space(directory)
        said = f"{directory}: {free / 2**30:.1f} GiB of {size / 2**30:.0f} are free."
        few = free / size < _LITTLE_SPACE
        remedy = "Make room: a full disk stops archiving." if few else ""
        yield Finding("disk", "care" if few else "fine", said, remedy)
    for file in surroundings.certificates(urls, configs):
        yield _certificate(file, surroundings.expiry(file))


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
