"""Archives made directly, without a broker: files in a lake and their entries in an index."""

from __future__ import annotations

from datetime import datetime, timezone

import pyarrow as pa

from tests._messages import with_checksums
from transforms import registry
from transforms.entries import entries, message_ids
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.model import FILE_SCHEMA

__all__ = ["INGESTED", "archive"]

INGESTED = datetime(2026, 11, 1, tzinfo=timezone.utc)


def archive(
    lake: Lake,
    index: Index,
    messages: pa.Table,
    *,
    rows_per_file: int = 10_000,
    format: str = "parquet",
    source: str = "orders",
    ingested: datetime = INGESTED,
) -> list[str]:
    """Write messages of one partition as persist would, and index them; returns the files' locations."""
    partition = messages["partition"][0].as_py()
    ids = message_ids(source, 1, partition, messages)
    whole = with_checksums(messages.set_column(0, FILE_SCHEMA.field("id"), ids))
    locations = []
    for start in range(0, len(whole), rows_per_file):
        rows = whole.slice(start, rows_per_file)
        path = f"{source}/{source}-{partition}-{start:020d}.{format}"
        assert lake.put_new(path, registry.format_of(format).encode(rows))
        locations.append(lake.location(path))
        index.insert(entries(rows, locations[-1], ingested))
    return locations
