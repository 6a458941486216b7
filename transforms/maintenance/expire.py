"""Retention: deletes messages older than a date, first from the index, then from the lake, then the claims.

A crash at any point leaves files without entries, never entries without a file. Running it again continues:
it finds the files left in the lake and the entries whose file is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import obstore

from transforms import registry
from transforms.entries import origin
from transforms.errors import ConfigurationError, PermanentError
from transforms.indexes import Index
from transforms.lake import INTERNAL, Lake, ObjectMissingError
from transforms.maintenance.spent_claims import sources, spent_claims
from transforms.reading.claims import Chain
from transforms.retry import retry
from transforms.selection import Selection

__all__ = ["Expired", "expire"]

Progress = Callable[[int, int, int], object]
_T = TypeVar("_T")

_WORKERS = 16
_PROBLEMS_KEPT = 100
_MESSAGES_AT_ONCE = 200_000
_FILES_AT_ONCE = 500
_CLAIMS_AT_ONCE = 1000
_PATIENCE = 300.0
_YOUNG = timedelta(days=1)
_NOT_THERE = "persistor-may-delete"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


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
        kept: files that stay, by reason: ``newer`` (one of its messages is newer than the date), ``young``
            (written within the last day: its job may still be indexing it), ``unknown`` (a message without
            a publish time, a file of another product) and ``damaged``.
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
    young: timedelta = _YOUNG,
    progress: Progress = lambda _done, _failed, _messages: None,
) -> Expired:
    """Delete every file whose messages were all published before a date, with its index entries.

    Persist, index, resubmission and search may run at the same time. A file that also holds newer messages
    stays whole, with all its entries. Claims that reading continues from stay.

    Args:
        lake: its files except ``_persistor/`` are checked, with one or two ranged reads each.
        index: the index of these files; None if there is none.
        before: with time zone.
        only: sources to check; empty for all.
        plan_only: report what would be deleted, and delete nothing.
        young: minimum age of a file; younger files stay, because their job may still have to index them.
        progress: called with messages deleted, 0, and messages to delete; from the calling thread.

    Raises:
        ConfigurationError: a source does not exist in the lake.
        TransientError: lake or index did not answer, or refused, for five minutes.
    """
    run = _Run(lake, index, before, only, progress)
    run.survey(datetime.now(timezone.utc) - young)
    if not plan_only:
        run.delete()
    return run.report


class _MessagesLake(Lake):
    """The only lake class that deletes files of messages; nothing else may create one."""

    def written_files(self) -> Iterator[tuple[str, int, datetime]]:
        """Path, size and modification time of each file."""
        pages = obstore.list(self._store, chunk_size=1000)
        while page := self._call(lambda: next(pages, None)):
            metas = (meta for meta in page if not meta["path"].startswith(INTERNAL))
            yield from ((meta["path"], meta["size"], meta["last_modified"]) for meta in metas)

    def may_delete(self) -> None:
        """Check the right to delete by deleting an object that does not exist.

        Raises:
            AccessDeniedError: deleting is not allowed.
        """
        self._delete_one(_NOT_THERE)

    def delete_all(self, paths: Sequence[str]) -> None:
        """Delete objects, in few requests if the store supports that; missing ones are no error."""
        try:
            self._call(lambda: obstore.delete(self._store, list(paths)))
        except ObjectMissingError:
            for path in paths:
                self._delete_one(path)

    def _delete_one(self, path: str) -> None:
        try:
            self._call(lambda: obstore.delete(self._store, path))
        except ObjectMissingError:
            return


@dataclass(frozen=True)
class _File:
    """The findings about a file: why it is kept, or None if it is not."""

    path: str
    bytes: int
    messages: int = 0
    kept: str | None = None
    problem: str | None = None
    chain: Chain | None = None
    offset: int = 0


class _Run:
    def __init__(
        self, lake: Lake, index: Index | None, before: datetime, only: Sequence[str], progress: Progress
    ) -> None:
        self._lake = _MessagesLake(*lake.__reduce__()[1])
        self._index, self._before, self._only, self._progress = index, before, tuple(only), progress
        self._files: list[_File] = []
        self._lost: list[str] = []
        self._kept_from: dict[Chain, int] = {}
        self._deleted = 0
        self.report = Expired(before.astimezone(timezone.utc).isoformat(), list(only))

    def survey(self, written_before: datetime) -> None:
        """Find old files in the lake, and index entries of files that are gone."""
        self._refuse_unknown_sources()
        judge = partial(
            _judge, self._lake, (self._before - _EPOCH) // timedelta(microseconds=1), written_before
        )
        written = self._lake.written_files()
        with ThreadPoolExecutor(_WORKERS) as pool:
            while some := list(islice(written, 20 * _WORKERS)):
                for file in pool.map(judge, some):
                    self._add(file)
                self._report_progress()
            if self._index is not None:
                self._lost = [one for one in pool.map(self._if_lost, self._old_locations(self._index)) if one]
        self.report.lost = len(self._lost)
        if self._files or self._lost:
            self.report.notes.append("Nothing is deleted yet: this is the plan; `yes` carries it out.")

    def delete(self) -> None:
        """Index, then files, then claims."""
        self.report.done, self.report.notes = True, []
        if self._files:
            _patiently(self._lake.may_delete, "check the right to delete")
        for some in _portions(self._files):
            self._forget([self._lake.location(file.path) for file in some])
            _patiently(partial(self._lake.delete_all, [file.path for file in some]), "delete files")
            self._deleted += sum(file.messages for file in some)
            self._report_progress()
        for start in range(0, len(self._lost), _FILES_AT_ONCE):
            self._forget(self._lost[start : start + _FILES_AT_ONCE])
        for source in self._only or sources(self._lake):
            self._delete_claims(source)

    def _refuse_unknown_sources(self) -> None:
        known = sources(self._lake)
        strange = sorted(set(self._only) - set(known))
        if strange:
            raise ConfigurationError(
                f"`source: {one}`: {self._lake.url} has {', '.join(known) or 'no source'}." for one in strange
            )

    def _add(self, file: _File) -> None:
        report = self.report
        if self._only and (file.chain is None or file.chain.source not in self._only):
            return
        if file.kept is None:
            self._files.append(file)
            report.files += 1
            report.messages += file.messages
            report.bytes += file.bytes
            return
        report.kept[file.kept] = report.kept.get(file.kept, 0) + 1
        if file.problem and len(report.problems) < _PROBLEMS_KEPT:
            report.problems.append(file.problem)
        if file.chain is not None:
            self._kept_from[file.chain] = min(self._kept_from.get(file.chain, file.offset), file.offset)

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
            _patiently(lambda: self._lake.open(path or ""), f"look up {path}")
        except ObjectMissingError:
            return location
        return None

    def _forget(self, locations: Sequence[str]) -> None:
        index = self._index
        if index is not None:
            self.report.entries += _patiently(lambda: index.forget(locations), "remove entries")

    def _delete_claims(self, source: str) -> None:
        spent = _patiently(lambda: spent_claims(self._lake, source, self._kept_from), "read claims")
        for start in range(0, len(spent), _CLAIMS_AT_ONCE):
            some = spent[start : start + _CLAIMS_AT_ONCE]
            _patiently(partial(self._lake.delete_all, some), "delete claims")
            self.report.claims += len(some)

    def _report_progress(self) -> None:
        self._progress(self._deleted, 0, self.report.messages)


def _judge(lake: Lake, before: int, written_before: datetime, found: tuple[str, int, datetime]) -> _File:
    path, size, written = found
    try:
        bounds = _patiently(lambda: registry.format_of(path).bounds(lake.open(path)), f"read {path}")
    except ConfigurationError:
        return _File(path, size, kept="unknown")  # not one of our formats
    except ObjectMissingError:
        return _File(path, size, kept="gone")
    except PermanentError as error:
        return _File(path, size, kept="damaged", problem=f"{path}: {error}")
    named = origin(bounds.id, bounds.offset) if bounds.id else None
    if named is None:
        return _File(path, size, kept="unknown")
    chain = Chain(*named, bounds.partition or 0)
    kept = _reason(bounds.newest, before, young=written >= written_before)
    return _File(path, size, bounds.rows, kept, chain=chain, offset=bounds.offset or 0)


def _reason(newest: int | None, before: int, *, young: bool) -> str | None:
    if newest is None:
        return "unknown"
    if newest >= before:
        return "newer"
    return "young" if young else None


def _portions(files: Sequence[_File]) -> Iterator[list[_File]]:
    """Portions of files small enough not to block the store for long."""
    portion: list[_File] = []
    for file in files:
        portion.append(file)
        if len(portion) == _FILES_AT_ONCE or sum(one.messages for one in portion) >= _MESSAGES_AT_ONCE:
            yield portion
            portion = []
    if portion:
        yield portion


def _patiently(call: Callable[[], _T], what: str) -> _T:
    return retry(call, what, give_up_after=_PATIENCE)
