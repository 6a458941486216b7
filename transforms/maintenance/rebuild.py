"""Rebuilds the index from the lake alone: reads every file, checks every row, makes every entry again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms import registry
from transforms._columns import column
from transforms.entries import entries, verify
from transforms.errors import ConfigurationError, PermanentError
from transforms.indexes import ConflictError, Index
from transforms.lake import INTERNAL, Lake, ObjectMissingError
from transforms.retry import retry

__all__ = ["Rebuilt", "rebuild"]

_PROBLEMS_KEPT = 100
_ROWS = 20_000
_REASONS = {
    "mismatch": "{} rows do not match their checksums",
    "foreign": "{} rows were not written by Persistor and name no source",
    "conflict": "{} ids are indexed for other messages",
}


@dataclass
class Rebuilt:
    """The result of a rebuild.

    Attributes:
        files: lake files read, including damaged ones.
        skipped: objects whose name belongs to no format of Persistor.
        messages: rows of the files.
        indexed: rows now in the index.
        new: rows that were not in the index before (without rows of files with a conflict).
        failed: what is not indexed, by category: ``damaged`` files; and rows, ``mismatch`` (content and
            stored checksum differ), ``foreign`` (of other products, whose ids name no source),
            ``conflict`` (the id is indexed for another message).
        problems: the first 100 problems, a sentence per file.
    """

    files: int = 0
    skipped: int = 0
    messages: int = 0
    indexed: int = 0
    new: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if everything in the lake is indexed, else 1."""
        return int(bool(self.failed))

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with ``exit_code``."""
        return {**asdict(self), "exit_code": self.exit_code}

    def fail(self, category: str, count: int, problem: str) -> None:
        """Count rows or files that are not indexed."""
        self.failed[category] = self.failed.get(category, 0) + count
        if len(self.problems) < _PROBLEMS_KEPT:
            self.problems.append(problem)


def rebuild(
    lake: Lake,
    index: Index,
    ingestion_time: datetime,
    *,
    workers: int = 4,
    progress: Callable[[int, int, int], object] = lambda _indexed, _failed, _messages: None,
) -> Rebuilt:
    """Index every file of a lake. Idempotent: existing entries stay unchanged.

    Transient errors of reading and inserting are retried. Memory: ``workers`` files at a time.

    Args:
        lake: its files except ``_persistor/`` are read.
        index: receives the entries.
        ingestion_time: of the new entries, with time zone; the only value that cannot be restored.
        workers: files processed at the same time.
        progress: called with messages indexed, failed, and read so far; from the calling thread.

    Raises:
        TransientError: the lake cannot be listed.
    """
    work = _Rebuild(lake, index, ingestion_time)
    with ThreadPoolExecutor(workers) as pool:
        paths = (path for path, _ in lake.list() if not path.startswith(INTERNAL))
        running = {pool.submit(work.one, path) for path in islice(paths, 2 * workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            _raise_first(done)
            running |= {pool.submit(work.one, path) for path in islice(paths, len(done))}
            progress(*work.counts())
    return work.report


def _raise_first(done: set[Future[None]]) -> None:
    for future in done:
        future.result()


class _Rebuild:
    def __init__(self, lake: Lake, index: Index, ingestion_time: datetime) -> None:
        self._lake, self._index, self._ingestion_time = lake, index, ingestion_time
        self._lock = threading.Lock()
        self.report = Rebuilt()

    def counts(self) -> tuple[int, int, int]:
        """Rows indexed, rows and files that failed, and rows read so far."""
        with self._lock:
            return self.report.indexed, sum(self.report.failed.values()), self.report.messages

    def one(self, path: str) -> None:
        """Index one file."""
        try:
            format = registry.format_of(path)
        except ConfigurationError:
            with self._lock:
                self.report.skipped += 1
            return
        try:
            data = retry(lambda: self._lake.get(path), f"read {path}")
        except ObjectMissingError:
            return  # it expired after it was listed
        try:
            table = format.decode(data)
        except PermanentError as error:
            self._count(path, damaged=1, why=str(error))
            return
        self._index_rows(path, table)

    def _index_rows(self, path: str, table: pa.Table) -> None:
        checked = verify(table, column(table, "id"), column(table, "checksum"))
        good, own = checked.ok & checked.by_checksum, checked.by_checksum
        new, conflicts = self._insert(path, table, np.flatnonzero(good))
        with self._lock:
            self.report.messages += len(table)
            self.report.indexed += int(good.sum()) - conflicts
            self.report.new += new
        self._count(path, mismatch=int((own & ~good).sum()), foreign=int((~own).sum()), conflict=conflicts)

    def _insert(self, path: str, table: pa.Table, rows: npt.NDArray[np.int64]) -> tuple[int, int]:
        """The number of new rows, and of rows whose id belongs to another message in the index."""
        new = conflicts = 0
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            chosen = table.take(pa.array(part))
            made = entries(chosen, self._lake.location(path), self._ingestion_time, part)
            try:
                new += retry(partial(self._index.insert, made), f"index {path}")
            except ConflictError as error:
                conflicts += len(error.ids)
        return new, conflicts

    def _count(self, path: str, *, why: str = "", **failed: int) -> None:
        with self._lock:
            self.report.files += 1
            for category, count in failed.items():
                if count:
                    self.report.fail(category, count, f"{path}: {why or _REASONS[category].format(count)}")
