"""The rows that a job could not publish, kept in the lake so that they can be tried again."""

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
    """Those of one lane, an object for each commit that had some; kept before the ledger knows of them."""

    def __init__(self, lake: Lake, job: str, lane: int) -> None:
        """Below the folder of the job in the lake of its plan."""
        self._lake = lake
        self._folder = f"{folder(job)}/failed/{lane:02d}"

    def keep(self, first: int, rows: pa.Table) -> None:
        """Store failed rows (``FAILED_SCHEMA``) of a commit that begins at row ``first`` of the lane.

        Raises:
            TransientError: the lake is away.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, FAILED_SCHEMA, options=_COMPRESSED) as writer:
            writer.write_table(rows.cast(FAILED_SCHEMA))
        self._lake.put_new(f"{self._folder}/{first:012d}.arrow", sink.getvalue())

    def forget_from(self, first: int) -> None:
        """Drop what was kept for commits from row ``first`` on; raises as :meth:`keep`."""
        for path, _ in self._lake.list(self._folder):
            if first_row(path) >= first:
                self._lake.delete(path)

    def read(self) -> Iterator[pa.RecordBatch]:
        """All of them in the order of the lane (``FAILED_SCHEMA``). Raises as :meth:`keep`."""
        for path in sorted(path for path, _ in self._lake.list(self._folder)):
            yield from pa.ipc.open_stream(pa.py_buffer(self._lake.get(path)))
