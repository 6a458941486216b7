"""Which files of a lake are older than a date: found by the claims, from the front of each chain."""

from __future__ import annotations

from collections.abc import Set
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import islice

from transforms import registry
from transforms.catalogue import Entry, Segment
from transforms.entries import origin
from transforms.errors import ConfigurationError, PermanentError
from transforms.lake import ObjectMissingError
from transforms.maintenance.chains import claim_paths
from transforms.maintenance.deleting_lake import DeletingLake
from transforms.maintenance.patience import patiently
from transforms.reading.claims import Chain, Claim
from transforms.stored import load_as
from transforms.times import microseconds

__all__ = ["Dates", "File", "Walk", "judge_file", "walk", "walk_segment"]

_MOST_AT_ONCE = 64
# What keeps a claim whose files are kept for several reasons: first what keeps those behind it too.
_BY_WEIGHT = "newer", "young", "damaged", "unknown"


@dataclass(frozen=True)
class Dates:
    """What is older: published before one moment, and archived before another; in µs since 1970.

    A message without a publish time counts as published when it was archived.
    """

    published: int
    archived: int

    @classmethod
    def of(cls, published: datetime, archived: datetime) -> Dates:
        """The same from times with their zone."""
        return cls(microseconds(published), microseconds(archived))

    def reason(self, newest: int | None, archived: int) -> str | None:
        """Why a file stays: ``newer`` or ``young``; None if it does not.

        Args:
            newest: latest publish time of its messages.
            archived: when it was archived.
        """
        if newest is not None and newest >= self.published:
            return "newer"
        return "young" if archived >= self.archived else None


@dataclass(frozen=True)
class File:
    """The findings about a file: why it is kept, or None if it is not."""

    path: str
    bytes: int
    messages: int = 0
    kept: str | None = None
    problem: str | None = None
    source: str | None = None


@dataclass
class Walk:
    """What is due at the front of chains.

    Attributes:
        files: those that were looked at.
        claims: path and end of each claim, without those that stay for their files, in order.
        durable: the position below which reading needs no claims.
        stays: whether a claim stays for its files.
        stopped: chains whose first claim that is not due was found.
    """

    files: list[File] = field(default_factory=list)
    claims: list[tuple[str, int]] = field(default_factory=list)
    durable: int = 0
    stays: bool = False
    stopped: set[Chain] = field(default_factory=set)

    def add(self, judged: _Judged) -> None:
        """Take in the next claim."""
        self.files += judged.files
        self.durable = judged.entry.claim.durable
        self.stays |= judged.kept
        if judged.is_last:
            self.stopped.add(judged.entry.chain)
        if not judged.kept:
            self.claims.append((judged.entry.claim_path, judged.entry.claim.next))

    @property
    def spent(self) -> list[str]:
        """Paths of the claims that nobody needs, in order. The newest ends behind ``durable``."""
        return [path for path, end in self.claims if end <= self.durable]


def walk(lake: DeletingLake, chain: Chain, dates: Dates, executor: Executor) -> Walk:
    """Judge a chain's single claims from the oldest on, up to the first that is not due, or is gone.

    What is folded meanwhile is found by the next run, in its segment.

    Costs one request to list, one for each claim looked at, and one for each file of a due claim. Files of
    claims that an older release made, which say no times, are opened.

    Raises:
        TransientError: the lake did not answer for five minutes.
    """
    found, paths = Walk(), claim_paths(lake, chain)
    at_once = 1
    while some := list(islice(paths, at_once)):
        for judged in executor.map(partial(_judge_single, lake, chain, dates), some):
            if judged is None:  # folded meanwhile, and with it perhaps those behind it
                return found
            found.add(judged)
            if judged.is_last:
                return found
        at_once = min(2 * at_once, _MOST_AT_ONCE)
    return found


def walk_segment(
    lake: DeletingLake, segment: Segment, dates: Dates, executor: Executor, stopped: Set[Chain]
) -> Walk:
    """As :func:`walk`, of the chains in one segment but those that have ``stopped`` in an earlier one."""
    found, entries = Walk(stopped=set(stopped)), segment.entries()
    while some := list(islice(entries, _MOST_AT_ONCE)):
        found.stays |= any(entry.chain in found.stopped for entry in some)
        some = [entry for entry in some if entry.chain not in found.stopped]
        for judged in executor.map(partial(_judge, lake, dates), some):
            if judged.entry.chain in found.stopped:
                found.stays = True  # it was looked at too early
            else:
                found.add(judged)
    return found


def judge_file(lake: DeletingLake, dates: Dates, found: tuple[str, int, datetime]) -> File:
    """Judge a file by what it holds; it is opened.

    Args:
        found: path, size and time of writing.

    Raises:
        TransientError: the lake did not answer for five minutes.
    """
    path, size, written = found
    try:
        bounds = patiently(lambda: registry.format_of(path).bounds(lake.open(path)), f"read {path}")
    except ConfigurationError:
        return File(path, size, kept="unknown")  # not one of our formats
    except ObjectMissingError:
        return File(path, size, kept="gone")
    except PermanentError as error:
        return File(path, size, kept="damaged", problem=f"{path}: {error}")
    named = origin(bounds.id, bounds.offset) if bounds.id else None
    if named is None:
        return File(path, size, kept="unknown")
    kept = dates.reason(bounds.newest, microseconds(written))
    return File(path, size, bounds.rows, kept, source=named[0])


@dataclass(frozen=True)
class _Judged:
    """One claim with its files.

    Attributes:
        is_last: whether those behind it are not due either.
    """

    entry: Entry
    files: list[File] = field(default_factory=list)
    kept: bool = False
    is_last: bool = False


def _judge_single(lake: DeletingLake, chain: Chain, dates: Dates, path: str) -> _Judged | None:
    try:
        claim = load_as(Claim, patiently(lambda: lake.get(path), f"read {path}"), lake.location(path))
    except ObjectMissingError:
        return None
    return _judge(lake, dates, Entry(chain, int(path.rpartition("/")[2]), claim))


def _judge(lake: DeletingLake, dates: Dates, entry: Entry) -> _Judged:
    claim = entry.claim
    if not claim.rows:
        return _Judged(entry)
    if claim.bytes is None or claim.archived_us is None:  # of an older release, which says no times
        return _judged(entry, [one for one in (_opened(lake, dates, file) for file in entry.files) if one])
    if kept := dates.reason(claim.newest_us, claim.archived_us):
        # What was published after it was archived says nothing about those behind it.
        wrong = claim.newest_us is not None and claim.newest_us > claim.archived_us
        is_last = claim.archived_us >= dates.archived or not wrong
        return _Judged(entry, [File(file, 0, kept=kept) for file in entry.files], True, is_last)
    there = [one for one in (_looked_up(lake, dates, file) for file in entry.files) if one]
    if there:
        there[0] = replace(there[0], messages=claim.rows)
    return _judged(entry, there)


def _judged(entry: Entry, files: list[File]) -> _Judged:
    """A claim's files go together or not at all."""
    reasons = {file.kept for file in files} - {None}
    if not reasons:
        return _Judged(entry, files)
    reason = next(reason for reason in _BY_WEIGHT if reason in reasons)
    kept = [replace(file, kept=file.kept or reason) for file in files]
    return _Judged(entry, kept, True, reason in {"newer", "young"})


def _looked_up(lake: DeletingLake, dates: Dates, path: str) -> File | None:
    try:
        size, written = patiently(lambda: lake.written(path), f"look up {path}")
    except ObjectMissingError:
        return None
    # A lake that was away may have its file long after the claim.
    return File(path, size, kept=dates.reason(None, microseconds(written)))


def _opened(lake: DeletingLake, dates: Dates, path: str) -> File | None:
    try:
        size, written = patiently(lambda: lake.written(path), f"look up {path}")
    except ObjectMissingError:
        return None
    file = judge_file(lake, dates, (path, size, written))
    return None if file.kept == "gone" else file
