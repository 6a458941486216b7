"""Folds durable claims of a source into segments, and removes the single ones.

A segment is written before anything is removed, and all of its claims are removed before the next one is
written. So a crash at any point leaves at most the claims of the newest segment behind, which the next run
removes first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, takewhile
from typing import TypeVar

from transforms.catalogue import Entry, Segment, encode, next_path, segments
from transforms.lake import INTERNAL, Lake, ObjectMissingError
from transforms.maintenance.chains import chains, claim_paths
from transforms.maintenance.deleting_lake import DeletingLake
from transforms.maintenance.patience import patiently
from transforms.reading.claims import MOST, Chain, Claim, Claims
from transforms.reading.newest import BACK, newest_starts
from transforms.stored import load_as
from transforms.times import microseconds

__all__ = ["Folded", "fold"]

_T = TypeVar("_T")
_DAY = 86_400_000_000
_WORKERS = 16
_MOST_ENTRIES = 50_000
_CLAIMS_AT_ONCE = 1000
_MOST_AT_ONCE = 64


@dataclass
class Folded:
    """What was folded: single claims removed, and segments written."""

    claims: int = 0
    segments: int = 0


def fold(
    lake: DeletingLake, source: str, before_us: int, progress: Callable[[int], object] = lambda _claims: None
) -> Folded:
    """Fold what was claimed before a moment and is durable; the newest claim of each chain stays single.

    Where jobs with several sinks use the lake, what all of them have made durable counts, and the newest
    hundred claims of each chain stay single, among which each looks for its own.

    Any number of runs, persist and expire may run at the same time. Costs about one request for each claim
    that is folded, and three for each chain. Memory: some 70,000 claims.

    Args:
        before_us: µs since 1970.
        progress: called with the number of claims folded so far.

    Raises:
        TransientError: the lake did not answer for five minutes.
    """
    with ThreadPoolExecutor(_WORKERS) as readers, ThreadPoolExecutor(_WORKERS) as walkers:
        run = _Fold(lake, source, readers, progress)
        run.finish_earlier()
        run.fold(before_us, walkers)
    return run.report


class _Fold:
    def __init__(
        self, lake: DeletingLake, source: str, readers: Executor, progress: Callable[[int], object]
    ) -> None:
        self._lake, self._source, self._readers, self._progress = lake, source, readers, progress
        self._newest: Segment | None = None
        self._taken: dict[Chain, str] = {}
        self._single = BACK if _several_sinks(lake) else 1
        self._bounds: dict[Chain, tuple[int, int]] = {}
        self._entries: list[Entry] = []
        self.report = Folded()

    def finish_earlier(self) -> None:
        """Remove the claims that a run which was killed has left of the newest segment."""
        for segment in self._newer():
            self._newest = segment
        if self._newest is not None:
            self._remove_left(self._newest.entries())

    def fold(self, before_us: int, walkers: Executor) -> None:
        """Day by day, so that what is due at the same time is together."""
        found = patiently(partial(chains, self._lake, self._source), "list the partitions")
        waiting = dict.fromkeys(found, 0)
        while waiting and (oldest := min(waiting.values())) < before_us:
            limit = min(before_us, (oldest // _DAY + 1) * _DAY)
            ready = [chain for chain, next_us in waiting.items() if next_us < limit]
            for some in _portions(ready, _WORKERS):
                for chain, next_us in zip(some, walkers.map(partial(self._gather, limit), some), strict=True):
                    waiting.pop(chain)
                    if next_us is not None:
                        waiting[chain] = next_us
                if len(self._entries) >= _MOST_ENTRIES:
                    self._write()
            if min(waiting.values(), default=limit) >= limit:
                self._write()

    def _gather(self, limit: int, chain: Chain) -> int | None:
        """Take a chain's next claims from before ``limit``; returns when the next was made, or None."""
        paths = list(islice(claim_paths(self._lake, chain, self._taken.get(chain)), MOST))
        durable, newest = self._bound(chain, paths)
        at_once = 1
        left = iter(path for path in paths if _start(path) < newest)
        while some := list(islice(left, at_once)):
            for entry in filter(None, self._readers.map(partial(self._read, chain), some)):
                if entry.claim.next > durable:
                    return None
                archived_us = entry.claim.archived_us or 0
                if archived_us >= limit:
                    return archived_us
                self._entries.append(entry)
                self._taken[chain] = entry.claim_path
            at_once = min(2 * at_once, _MOST_AT_ONCE)
        return limit - 1 if len(paths) == MOST else None

    def _bound(self, chain: Chain, paths: Sequence[str]) -> tuple[int, int]:
        """The position below which all is durable, and the start of the first claim that stays single."""
        if chain not in self._bounds:
            starts = [_start(path) for path in paths]
            if len(starts) == MOST:
                starts = list(patiently(partial(newest_starts, Claims(self._lake), chain), "list claims"))
            last = [Entry(chain, start, _NONE).claim_path for start in starts[-self._single :]]
            read = [one for one in self._readers.map(partial(self._read, chain), last) if one is not None]
            durable = {entry.claim.sinks: entry.claim.durable for entry in read}  # the newest one of each
            self._bounds[chain] = (min(durable.values()), read[0].start) if read else (0, 0)
        return self._bounds[chain]

    def _read(self, chain: Chain, path: str) -> Entry | None:
        """A claim, with the time of its writing if it does not say when it was made; None if it is gone."""
        try:
            data, written = patiently(lambda: self._lake.get_written(path), f"read {path}")
        except ObjectMissingError:
            return None
        claim = load_as(Claim, data, self._lake.location(path))
        if claim.archived_us is None:
            claim = replace(claim, archived_us=microseconds(written))
        return Entry(chain, _start(path), claim)

    def _write(self) -> None:
        """Write the entries as the next segment, but for those that another run has written meanwhile."""
        while self._entries:
            path, data = next_path(self._source, self._newest), encode(self._entries)
            if patiently(partial(self._lake.put_new, path, data), "write a segment"):
                self._newest = Segment(self._lake, self._source, path, len(data))
                self._remove([entry.claim_path for entry in self._entries])
                self.report.segments += 1
                self.report.claims += len(self._entries)
                self._entries = []
                self._progress(self.report.claims)
                return
            for segment in self._newer():
                theirs = list(segment.entries())
                self._newest = segment
                self._remove_left(theirs)
                places = {entry.place for entry in theirs}
                self._entries = [entry for entry in self._entries if entry.place not in places]

    def _newer(self) -> Iterator[Segment]:
        known = self._newest.path if self._newest else ""
        found = patiently(partial(segments, self._lake, self._source), "list segments")
        return (segment for segment in found if segment.path > known)

    def _remove_left(self, entries: Iterable[Entry]) -> None:
        """Remove those that are still single."""
        by_chain = defaultdict[Chain, set[str]](set)
        for entry in entries:
            by_chain[entry.chain].add(entry.claim_path)
        for left in self._readers.map(self._left, by_chain, by_chain.values()):
            self._remove(left)

    def _left(self, chain: Chain, folded: set[str]) -> list[str]:
        last = max(folded)
        singles = takewhile(lambda path: path <= last, claim_paths(self._lake, chain))
        return [path for path in singles if path in folded]

    def _remove(self, paths: Sequence[str]) -> None:
        for some in _portions(sorted(paths), _CLAIMS_AT_ONCE):
            patiently(partial(self._lake.delete_all, some), "remove claims")


_NONE = Claim(0, 0, 0, "", "")


def _start(path: str) -> int:
    return int(path.rpartition("/")[2])


def _portions(several: Iterable[_T], most: int) -> Iterator[list[_T]]:
    rest = iter(several)
    while some := list(islice(rest, most)):
        yield some


def _several_sinks(lake: Lake) -> bool:
    """Whether jobs that share their progress write to different indexes or metadata topics."""
    listed = patiently(lambda: [path for path, _ in lake.list(f"{INTERNAL}sinks")], "list sinks")
    return max(Counter(path.rpartition("/")[0] for path in listed).values(), default=0) > 1
