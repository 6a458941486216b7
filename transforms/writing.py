"""Writes claimed batches as durable files in the lake, without Beam."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms import metrics, registry, stop
from transforms.entries import entries, total_size
from transforms.errors import PermanentError, TransientError
from transforms.formats import FormatModule
from transforms.lake import Lake, ObjectMissingError
from transforms.layout import Positions, file_path, template
from transforms.marking import is_marked
from transforms.model import LATEST_US, Batch, DeadLetter, WrittenFile
from transforms.retry import Patience, retry

__all__ = ["BatchWriter"]

_T = TypeVar("_T")
_FILES_AT_ONCE = 16
"""Of batches with several paths, in one process."""


@dataclass(frozen=True)
class BatchWriter:
    """Writes batches to one lake. Thread-safe.

    Delivery: a file is written completely or not at all, and never over another one. An existing file
    counts, so a batch that is written again yields the same files.

    Attributes:
        dead_letters: whether messages that cannot be written become dead letters; otherwise the error is
            raised and they stay at the broker.
        give_up_after: seconds without an answer of the lake after which batches become dead letters; None
            waits for ever.
        entries: whether to make index entries, which take a tenth of the time.
        skip_replayed: whether messages with the marker of a resubmission are left out.
    """

    lake: Lake
    dead_letters: bool = False
    give_up_after: float | None = None
    entries: bool = True
    skip_replayed: bool = False
    _patience: Patience = field(init=False, repr=False, compare=False)
    _parts: ThreadPoolExecutor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Never give up without dead letters."""
        patience = Patience(self.give_up_after if self.dead_letters else None)
        object.__setattr__(self, "_patience", patience)
        object.__setattr__(self, "_parts", ThreadPoolExecutor(_FILES_AT_ONCE, "file"))

    def write(self, batch: Batch) -> tuple[list[WrittenFile], list[DeadLetter]]:
        """Write one file per path of the batch, returning when they are durable; none if it has no messages.

        Raises:
            PermanentError: a message cannot be written, and dead letters are off.
            TransientError: the lake did not answer when the process was asked to stop.
        """
        if batch.lost is not None:
            return [], [batch.lost] if self.dead_letters else []
        batch = _without_replayed(batch) if self.skip_replayed else batch
        if batch.given_up is not None:
            letter = DeadLetter(batch.source, "write", "gave_up", batch.given_up, batch.messages)
            return [], [letter] if len(batch.messages) else []
        layout = batch.layout
        rendered = template(layout.path).render(batch.messages, batch.source, layout.naming)
        written = self._parts.map if len(rendered) > 1 else map
        files, dead = list[WrittenFile](), list[DeadLetter]()
        for good, bad in written(lambda one: self._write_part(batch, *one), rendered):
            files += good
            dead += bad
        for directory in batch.elsewhere:
            files.extend(self._left_behind(batch, directory))
        _count(batch, files, dead)
        return files, dead

    def _write_part(
        self, batch: Batch, directory: str, rows: Positions | None
    ) -> tuple[list[WrittenFile], list[DeadLetter]]:
        """Write the rows of one path."""
        messages = batch.messages if rows is None else batch.messages.take(rows)
        path = file_path(directory, batch.name, batch.layout.format, batch.layout.naming)
        part = _Part(batch.source, path, messages, registry.format_of(batch.layout.format))
        try:
            return [self._write_file(part)], []
        except _DamagedFileError:
            raise  # not the messages are at fault, but what stands in their place
        except (PermanentError, TransientError) as error:
            files = list[WrittenFile]()
            return files, list(self._dead(part, error, files))

    def _write_file(self, part: _Part) -> WrittenFile:
        with metrics.timed(metrics.WRITE_SECONDS):
            data = _encoded(part)
            stored = self._retry(lambda: self._put(part.path, data), f"write to {self.lake.url}")
            messages = part.messages
            if stored is not None and stored != memoryview(data):  # another reader saw other rows
                messages = _decoded(part.format, stored, self.lake.location(part.path))
        metrics.FILES.labels(metrics.label(part.source)).inc()
        return self._written(part.source, part.path, len(data), messages)

    def _written(self, source: str, path: str, bytes: int, messages: pa.Table) -> WrittenFile:
        location, now = self.lake.location(path), datetime.now(timezone.utc)
        made = entries(messages if self.entries else messages.slice(0, 0), location, now)
        return WrittenFile(location, source, bytes, len(messages), total_size(messages), made)

    def _put(self, path: str, data: bytes | memoryview | pa.Buffer) -> memoryview | None:
        """Write the file, or read the existing one."""
        if self.lake.put_new(path, data):
            return None
        try:
            return self.lake.get(path)
        except ObjectMissingError as error:
            # S3 answers "exists" while another writer is still uploading.
            raise TransientError(f"{path} is being written by another job") from error

    def _left_behind(self, batch: Batch, directory: str) -> Iterator[WrittenFile]:
        """The file of an earlier attempt, with messages that are gone from the broker, if it exists.

        It has the only copy, so this never gives up.
        """
        path = file_path(directory, batch.name, batch.layout.format, batch.layout.naming)
        try:
            stored = _wait(lambda: self.lake.get(path), f"read from {self.lake.url}", stop.stopping)
        except ObjectMissingError:
            return
        messages = _decoded(registry.format_of(batch.layout.format), stored, self.lake.location(path))
        yield self._written(batch.source, path, len(stored), messages)

    def _dead(
        self, part: _Part, error: PermanentError | TransientError, files: list[WrittenFile]
    ) -> Iterator[DeadLetter]:
        """Turn messages that cannot be written into dead letters; write the others."""
        if not self.dead_letters and isinstance(error, PermanentError):
            advice = "name a `dead_letter` topic for messages that cannot be written"
            raise PermanentError(f"{part.path} cannot be written, {error}; {advice}") from error
        if not self.dead_letters or stop.stopping():
            raise error
        if isinstance(error, TransientError):
            yield DeadLetter(part.source, "write", "gave_up", str(error), part.messages)
            return
        bad = _unencodable(part)
        if not bad.any():
            raise error
        if not bad.all():
            good = replace(part, messages=part.messages.filter(pa.array(~bad)))
            files.append(self._write_file(good))
        yield DeadLetter(part.source, "write", "permanent", str(error), part.messages.filter(pa.array(bad)))

    def _retry(self, call: Callable[[], _T], what: str) -> _T:
        patience = self._patience
        return _wait(patience.watched(call), what, lambda: stop.stopping() or patience.ended)


def _without_replayed(batch: Batch) -> Batch:
    marked = is_marked(batch.messages)
    count = int(marked.sum())
    if not count:
        return batch
    metrics.REPLAYED.labels(metrics.label(batch.source)).inc(count)
    left = batch.messages.filter(pa.array(~marked))
    return replace(batch, messages=left, claimed=max(0, batch.claimed - count))


@dataclass(frozen=True)
class _Part:
    """The rows of a batch for one file."""

    source: str
    path: str
    messages: pa.Table
    format: FormatModule


class _DamagedFileError(PermanentError):
    """A file that is there already cannot be read."""


def _decoded(format: FormatModule, stored: memoryview, location: str) -> pa.Table:
    try:
        return format.decode(stored)
    except PermanentError as error:
        what = "is empty: its writer was cut off" if not stored else f"is damaged: {error}"
        raise _DamagedFileError(
            f"{location} {what}. Delete it, and what the broker still has of it is written again."
        ) from error


def _encoded(part: _Part) -> bytes | memoryview | pa.Buffer:
    if part.messages["headers"].null_count:
        raise PermanentError("the broker's client cannot read headers with names that are not UTF-8")
    return part.format.encode(part.messages)


def _unencodable(part: _Part) -> npt.NDArray[np.bool_]:
    rows = len(part.messages)
    try:
        _encoded(part)
    except PermanentError:
        if rows > 1:
            halves = part.messages.slice(0, rows // 2), part.messages.slice(rows // 2)
            return np.concatenate([_unencodable(replace(part, messages=half)) for half in halves])
        return np.ones(rows, np.bool_)
    return np.zeros(rows, np.bool_)


def _wait(call: Callable[[], _T], what: str, stopped: Callable[[], bool]) -> _T:
    return retry(call, what, on_retry=metrics.RETRIES.labels("lake").inc, stopped=stopped)


def _count(batch: Batch, files: list[WrittenFile], dead: list[DeadLetter]) -> None:
    label = metrics.label(batch.source)
    archived = sum(file.messages for file in files)
    metrics.MESSAGES.labels(label).inc(archived)
    metrics.BYTES.labels(label).inc(sum(file.size for file in files))
    times = batch.messages["publish_time"].cast(pa.int64())
    if beyond := pc.sum(pc.greater_equal(times, LATEST_US)).as_py():
        metrics.BEYOND.labels(label).inc(beyond)
    lost = batch.claimed - archived - sum(len(letter.messages) for letter in dead)
    if lost > 0:
        metrics.GAPS.labels(label).inc(lost)
