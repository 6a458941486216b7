"""The tables of columns, made from the schemas of lake files and of the metadata topic."""

from __future__ import annotations

import pyarrow as pa

from transforms.model import ENTRY_SCHEMA, FILE_SCHEMA

__all__ = ["entries_table", "files_table"]

_MEANING = {
    "id": "`<source>_<partition>_<offset>`; from the topic's second incarnation on `<source>~<n>_…`; "
    "`<source>_<message id>` where the broker has no offsets",
    "source": "the topic behind `--source_prefix`",
    "incarnation": "1, and one more each time that the topic was created again",
    "topic": "name of the topic or subject",
    "partition": "null where the broker has none",
    "offset": "position in the partition; null where the broker has none",
    "publish_time": "as the broker gave it",
    "ingestion_time": "when it was archived",
    "key": "null where there is none",
    "data": "the payload; null is a tombstone",
    "headers": "in their order, repeated names kept",
    "attributes": "headers that are valid UTF-8, the last one of a name",
    "size": "bytes of key, data, header names and values",
    "traits": "what a destination must be able to carry",
    "checksum": "over publish time, key, data and headers; null in files that Persistor did not write",
    "location": "URL of the file",
    "position": "row in the file, from 0",
}


def files_table() -> str:
    """One Markdown table of the columns of a file of messages."""
    return _table(FILE_SCHEMA)


def entries_table() -> str:
    """One Markdown table of the columns of the index entries in the metadata topic."""
    return _table(ENTRY_SCHEMA)


def _table(schema: pa.Schema) -> str:
    rows = [f"| `{field.name}` | `{_type(field.type)}` | {_MEANING[field.name]} |" for field in schema]
    return "\n".join(["| Column | Type (Arrow) | Meaning |", "|---|---|---|", *rows])


def _type(kind: pa.DataType) -> str:
    return str(kind).replace("item: ", "").replace(" not null", "").replace("|", "\\|")
