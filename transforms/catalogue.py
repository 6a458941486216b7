"""Segments: the claims that reading no longer needs, many in one object, so that nothing opens their files.

A segment is a Parquet object ``_persistor/segments/<source>/<number>.parquet``, created once. Its number is
the next after the newest of its source, so of two runs at the same time one comes second, and reads what
the first has written before it goes on. The newest of a source always stays, so that numbers only grow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import PermanentError
from transforms.lake import INTERNAL, Lake
from transforms.layout import file_path
from transforms.reading.claims import Chain, Claim, file_stem
from transforms.stored import dump, from_fields, load

__all__ = ["Entry", "Segment", "encode", "next_path", "segments"]

_FOLDER = f"{INTERNAL}segments"
_KEY = b"persistor"
_TAIL = 1 << 16
_ROWS_AT_ONCE = 4096
_SCHEMA = pa.schema(
    [
        pa.field("incarnation", pa.int32()),
        pa.field("partition", pa.int32()),
        pa.field("start", pa.int64()),
        pa.field("next", pa.int64()),
        pa.field("rows", pa.int64()),
        pa.field("durable", pa.int64()),
        pa.field("path", pa.string()),
        pa.field("format", pa.string()),
        pa.field("first", pa.int64()),
        pa.field("first_position", pa.int64()),
        pa.field("directories", pa.list_(pa.string())),
        pa.field("lost", pa.string()),
        pa.field("naming", pa.int32()),
        pa.field("last_position", pa.int64()),
        pa.field("leader_epoch", pa.int64()),
        pa.field("bytes", pa.int64()),
        pa.field("oldest_us", pa.int64()),
        pa.field("newest_us", pa.int64()),
        pa.field("archived_us", pa.int64()),
        pa.field("sinks", pa.string()),
    ]
)


@dataclass(frozen=True)
class Entry:
    """One claim with its place."""

    chain: Chain
    start: int
    claim: Claim

    @property
    def place(self) -> tuple[int, int, int]:
        """Incarnation, partition and start: the order of a segment."""
        return self.chain.incarnation, self.chain.partition, self.start

    @property
    def claim_path(self) -> str:
        """Where the single claim is, or was."""
        return f"{INTERNAL}claims/{self.chain.name}/{self.start:020d}"

    @property
    def files(self) -> list[str]:
        """The paths of all files that its rows may be in."""
        name = file_stem(self.chain.source, self.chain.incarnation, self.chain.partition, self.start)
        claim = self.claim
        return [file_path(directory, name, claim.format, claim.naming) for directory in claim.directories]


@dataclass(frozen=True)
class Segment:
    """A segment in a lake; nothing is read before it is asked for.

    Attributes:
        source: the name of the source.
        path: of the object.
        size: its bytes.
    """

    lake: Lake
    source: str
    path: str
    size: int

    def summary(self) -> dict[str, Any]:
        """``entries``, ``files``, ``rows``, ``bytes``, ``oldest_archived_us``, ``newest_archived_us``.

        Raises:
            ObjectMissingError: it has been deleted.
            PermanentError: it is damaged, or a newer release has written it.
            TransientError: the lake does not answer.
        """
        start = max(0, self.size - _TAIL)
        [tail] = self.lake.get_ranges(self.path, [start], [self.size])
        try:
            metadata = pq.read_metadata(pa.BufferReader(pa.py_buffer(tail)))
        except pa.ArrowException:
            return self._said(self._opened().metadata)
        return self._said(metadata)

    def entries(self) -> Iterator[Entry]:
        """All entries, in order; raises as :meth:`summary`."""
        whole = self._opened()
        self._said(whole.metadata)
        for batch in whole.iter_batches(_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                chain = Chain(self.source, row["incarnation"], row["partition"])
                yield Entry(chain, row["start"], from_fields(Claim, row))

    def _opened(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(pa.BufferReader(pa.py_buffer(self.lake.get(self.path))))
        except pa.ArrowException as error:
            raise self._damaged from error

    def _said(self, metadata: pq.FileMetaData) -> dict[str, Any]:
        said = (metadata.metadata or {}).get(_KEY)
        if said is None:
            raise self._damaged
        return load(said, self.lake.location(self.path))

    @property
    def _damaged(self) -> PermanentError:
        return PermanentError(f"{self.lake.location(self.path)} is damaged: put back a whole copy of it.")


def segments(lake: Lake, source: str) -> list[Segment]:
    """The segments of a source, from the first made to the newest.

    Raises:
        TransientError: the lake does not answer.
    """
    return [Segment(lake, source, path, size) for path, size in sorted(lake.list(_folder(source)))]


def next_path(source: str, newest: Segment | None) -> str:
    """The path of the segment to be created after the newest one."""
    number = int(newest.path.rpartition("/")[2].partition(".")[0]) if newest else 0
    return f"{_folder(source)}/{number + 1:010d}.parquet"


def encode(entries: Sequence[Entry]) -> bytes:
    """A segment of entries of one source, which are put in order."""
    ordered = sorted(entries, key=lambda entry: entry.place)
    table = pa.Table.from_pylist([_row(entry) for entry in ordered], schema=_SCHEMA)
    sink = pa.BufferOutputStream()
    said = {_KEY: dump(_summary(ordered)).encode()}
    pq.write_table(table.replace_schema_metadata(said), sink, compression="zstd")
    return bytes(sink.getvalue())


def _summary(entries: Sequence[Entry]) -> dict[str, Any]:
    times = [entry.claim.archived_us or 0 for entry in entries]
    return {
        "entries": len(entries),
        "files": sum(len(entry.claim.directories) for entry in entries),
        "rows": sum(entry.claim.rows for entry in entries),
        "bytes": sum(entry.claim.bytes or 0 for entry in entries),
        "oldest_archived_us": min(times),
        "newest_archived_us": max(times),
    }


def _row(entry: Entry) -> dict[str, Any]:
    place = {"incarnation": entry.chain.incarnation, "partition": entry.chain.partition, "start": entry.start}
    return {**vars(entry.claim), **place}


def _folder(source: str) -> str:
    return f"{_FOLDER}/{quote(source, safe='')}"
