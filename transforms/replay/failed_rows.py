"""The rows that a job could not publish, stored in the lake for a retry."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from transforms.lake import Lake
from transforms.replay.plans import WINDOW_SCHEMA, first_row, folder

__all__ = ["FAILED_SCHEMA", "FailedRows"]

FAILED_SCHEMA = pa.schema(
    [*WINDOW_SCHEMA, pa.field("category", pa.string()), pa.field("reason", pa.string())]
)
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)


class FailedRows:
    """The failed rows of one lane: an object per commit that had any, stored before the ledger is updated."""

    def __init__(self, lake: Lake, job: str, lane: int) -> None:
        """Use the job's folder in the lake of its plan."""
        self._lake = lake
        self._folder = f"{folder(job)}/failed/{lane:02d}"

    def keep(self, first: int, rows: pa.Table) -> None:
        """Store failed rows (``FAILED_SCHEMA``) of a commit that begins at row ``first`` of the lane.

        Raises:
            TransientError: the lake does not answer.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, FAILED_SCHEMA, options=_COMPRESSED) as writer:
            writer.write_table(rows.cast(FAILED_SCHEMA))
        self._lake.put_new(f"{self._folder}/{first:012d}.arrow", sink.getvalue())

    def forget_from(self, first: int) -> None:
        """Delete the objects of commits from row ``first`` on; raises like :meth:`keep`."""
        for path, _ in self._lake.list(self._folder):
            if first_row(path) >= first:
                self._lake.delete(path)

    def read(self) -> Iterator[pa.RecordBatch]:
        """All failed rows in the order of the lane (``FAILED_SCHEMA``). Raises like :meth:`keep`."""
        for path in sorted(path for path, _ in self._lake.list(self._folder)):
            yield from pa.ipc.open_stream(pa.py_buffer(self._lake.get(path)))
