"""Retention: deletes messages older than a date, first from the index, then from the lake, then the claims.

A crash at any point leaves files without entries, never entries without a file. Running it again continues:
it finds the files left in the lake and the entries whose file is gone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import unquote

from transforms.catalogue import segments
from transforms.errors import ConfigurationError
from transforms.indexes import Index
from transforms.lake import Lake, ObjectMissingError
from transforms.maintenance.chains import chains, sources
from transforms.maintenance.deleting_lake import DeletingLake
from transforms.maintenance.due import Dates, File, judge_file, walk, walk_segment
from transforms.maintenance.patience import patiently
from transforms.maintenance.store_clock import refuse_other_clock
from transforms.reading.claims import Chain
from transforms.selection import Selection

__all__ = ["Expired", "expire"]

Progress = Callable[[int, int, int], object]

_WORKERS = 16
_PROBLEMS_KEPT = 100
_MESSAGES_AT_ONCE = 200_000
_FILES_AT_ONCE = 500
_CLAIMS_AT_ONCE = 1000
_YOUNG = timedelta(days=1)
_CLAIMED_FILE = re.compile(r"(?P<source>.+)-[0-9]+-[0-9]{20}\.[a-z]+")
_CLOCK_UNKNOWN = "The clock of the store was not compared with ours: these credentials may not write there."


@dataclass
class Expired:
    """The messages older than a date, and what was deleted.

    Attributes:
        before: the date, ISO 8601 in UTC.
        only: sources it was limited to; empty for all.
        done: False for a plan, which changes nothing.
        files: files whose messages are all older, deleted if ``done``.
        messages: their messages.
        bytes: their sizes together.
        entries: entries removed from the index, including those of lost files.
        lost: files that the index names but that are gone, such as after an interrupted run.
        claims: claims deleted; a plan does not count them.
        kept: files that were looked at and stay, by reason: ``newer`` (one of its messages is newer than the
            date), ``young`` (archived after the date, or within the last day: its job may still be indexing
            it), ``unknown`` (a file of another product) and ``damaged``.
        problems: the first 100 damaged files.
        notes: what an operator should know.
    """

    before: str
    only: list[str] = field(default_factory=list)
    done: bool = False
    files: int = 0
    messages: int = 0
    bytes: int = 0
    entries: int = 0
    lost: int = 0
    claims: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or 1 if files could not be judged."""
        return int(bool(self.problems))

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with ``exit_code``."""
        return {**asdict(self), "exit_code": self.exit_code}


def expire(
    lake: Lake,
    index: Index | None,
    before: datetime,
    *,
    only: Sequence[str] = (),
    plan_only: bool = False,
    archived_before: datetime | None = None,
    young: timedelta = _YOUNG,
    progress: Progress = lambda _done, _failed, _messages: None,
) -> Expired:
    """Delete every file whose messages were all published, and archived, before a date, with its entries.

    Each chain of claims is walked from its oldest claim to the first that is not due, so that it costs what
    is due. All files of the lake are looked at only for a source whose messages have no positions.

    Persist, index, resubmission and search may run at the same time. A file that also holds newer messages
    stays whole, with all its entries. Claims that reading continues from stay. A message without a publish
    time counts as published when it was archived.

    Args:
        lake: what is to be looked at.
        index: the index of these files; None if there is none.
        before: with time zone.
        only: sources to check; empty for all.
        plan_only: report what would be deleted, and delete nothing.
        archived_before: with time zone; default: the same as ``before``.
        young: minimum age of a file; younger files stay, because their job may still have to index them.
        progress: called with messages deleted, 0, and messages to delete; from the calling thread.

    Raises:
        ConfigurationError: a source does not exist in the lake; its clock and ours differ by more than five
            minutes.
        TransientError: lake or index did not answer, or refused, for five minutes.
    """
    archived = min(archived_before or before, datetime.now(timezone.utc) - young)
    run = _Run(lake, index, before, archived, only, progress=progress)
    run.survey()
    if not plan_only:
        run.delete()
    return run.report


class _Run:
    def __init__(
        self,
        lake: Lake,
        index: Index | None,
        before: datetime,
        archived_before: datetime,
        only: Sequence[str],
        *,
        progress: Progress,
    ) -> None:
        self._lake = DeletingLake.of(lake)
        self._index, self._before, self._only, self._progress = index, before, tuple(only), progress
        self._dates = Dates.of(before, archived_before)
        self._files: list[File] = []
        self._lost: list[str] = []
        self._spent: list[str] = []
        self._empty_segments: list[str] = []
        self._deleted = 0
        self.report = Expired(before.astimezone(timezone.utc).isoformat(), list(only))

    def survey(self) -> None:
        """Find old files in the lake, and index entries of files that are gone."""
        self._refuse_unknown_sources()
        with ThreadPoolExecutor(_WORKERS) as pool:
            if self._walk_chains(pool) or not sources(self._lake):
                self._scan(pool)
            if self._index is not None:
                self._lost = [one for one in pool.map(self._if_lost, self._old_locations(self._index)) if one]
        self.report.lost = len(self._lost)
        if self._files or self._lost:
            self.report.notes.append("Nothing is deleted yet: this is the plan; `yes` carries it out.")

    def _walk_chains(self, pool: ThreadPoolExecutor) -> bool:
        """Whether a source that is asked for has no claims."""
        all_have = True
        with ThreadPoolExecutor(_WORKERS) as walkers:  # of their own: they wait for those of the pool
            for source in self._only or sources(self._lake):
                stopped = self._walk_segments(source, pool)
                found = patiently(partial(chains, self._lake, source), "list the partitions")
                all_have &= bool(found)
                found = [chain for chain in found if chain not in stopped]
                for walked in walkers.map(lambda chain: walk(self._lake, chain, self._dates, pool), found):
                    self._add(walked.files)
                    self._spent += walked.spent
        return not all_have

    def _walk_segments(self, source: str, pool: ThreadPoolExecutor) -> set[Chain]:
        """The chains of which later claims are not due either."""
        stopped: set[Chain] = set()
        # Before the single claims: what is folded meanwhile is found by the next run.
        known = patiently(partial(segments, self._lake, source), "list segments")
        for segment in known:
            try:
                said = patiently(segment.summary, "read a segment")
                if said["oldest_archived_us"] >= self._dates.archived:
                    break
                walked = walk_segment(self._lake, segment, self._dates, pool, stopped)
            except ObjectMissingError:
                continue  # another run has deleted it, after all that it names
            self._add(walked.files)
            stopped |= walked.stopped
            if not walked.stays and segment is not known[-1]:
                self._empty_segments.append(segment.path)
        return stopped

    def _scan(self, pool: ThreadPoolExecutor) -> None:
        """Look at all files of the lake, for those that no claim names."""
        claimed = {source for source in sources(self._lake) if chains(self._lake, source)}
        written = (one for one in self._lake.written_files() if _source_of(one[0]) not in claimed)
        while some := list(islice(written, 20 * _WORKERS)):
            judged = pool.map(partial(judge_file, self._lake, self._dates), some)
            self._add(
                file
                for file in judged
                if file.source not in claimed and (not self._only or file.source in self._only)
            )
            self._report_progress()

    def delete(self) -> None:
        """Index, then files, then claims."""
        self.report.done, self.report.notes = True, []
        if not patiently(partial(refuse_other_clock, self._lake), "compare clocks"):
            self.report.notes.append(_CLOCK_UNKNOWN)
        if self._files:
            patiently(self._lake.may_delete, "check the right to delete")
        for some in _portions(self._files):
            self._forget([self._lake.location(file.path) for file in some])
            patiently(partial(self._lake.delete_all, [file.path for file in some]), "delete files")
            self._deleted += sum(file.messages for file in some)
            self._report_progress()
        for start in range(0, len(self._lost), _FILES_AT_ONCE):
            self._forget(self._lost[start : start + _FILES_AT_ONCE])
        self._delete_claims()

    def _refuse_unknown_sources(self) -> None:
        known = sources(self._lake)
        strange = sorted(set(self._only) - set(known))
        if strange:
            raise ConfigurationError(
                f"`source: {one}`: {self._lake.url} has {', '.join(known) or 'no source'}." for one in strange
            )

    def _add(self, files: Iterable[File]) -> None:
        report = self.report
        for file in files:
            if file.kept is None:
                self._files.append(file)
                report.files += 1
                report.messages += file.messages
                report.bytes += file.bytes
                continue
            report.kept[file.kept] = report.kept.get(file.kept, 0) + 1
            if file.problem and len(report.problems) < _PROBLEMS_KEPT:
                report.problems.append(file.problem)

    def _old_locations(self, index: Index) -> Iterator[str]:
        """Files of this lake named by old entries, without those to be deleted."""
        met = {self._lake.location(file.path) for file in self._files}
        selection = Selection(published_to=self._before)
        if self._only:
            selection = selection.model_copy(update={"sources": self._only})
        for entries in index.select(selection, ["location"]):
            new = set(entries["location"].unique().to_pylist()) - met
            met |= new
            yield from (one for one in sorted(new) if self._lake.path(one) is not None)

    def _if_lost(self, location: str) -> str | None:
        path = self._lake.path(location)
        try:
            patiently(lambda: self._lake.open(path or ""), f"look up {path}")
        except ObjectMissingError:
            return location
        return None

    def _forget(self, locations: Sequence[str]) -> None:
        index = self._index
        if index is not None:
            self.report.entries += patiently(lambda: index.forget(locations), "remove entries")

    def _delete_claims(self) -> None:
        for start in range(0, len(self._spent), _CLAIMS_AT_ONCE):
            some = self._spent[start : start + _CLAIMS_AT_ONCE]
            patiently(partial(self._lake.delete_all, some), "delete claims")
            self.report.claims += len(some)
        patiently(partial(self._lake.delete_all, self._empty_segments), "delete segments")

    def _report_progress(self) -> None:
        self._progress(self._deleted, 0, self.report.messages)


def _portions(files: Sequence[File]) -> Iterator[list[File]]:
    """Portions of files small enough not to block the store for long."""
    portion: list[File] = []
    for file in files:
        portion.append(file)
        if len(portion) == _FILES_AT_ONCE or sum(one.messages for one in portion) >= _MESSAGES_AT_ONCE:
            yield portion
            portion = []
    if portion:
        yield portion


def _source_of(path: str) -> str | None:
    """The source of a file that is named by a claim."""
    named = _CLAIMED_FILE.fullmatch(path.rpartition("/")[2])
    return unquote(named["source"]).partition("~")[0] if named else None
