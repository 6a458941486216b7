"""Counting documents by source, with the server's aggregation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from transforms.indexes import SourceSummary
from transforms.indexes.mongodb.documents import Document
from transforms.times import moment

__all__ = ["ONCE", "summaries", "summary_stages", "time_of"]

ONCE: Document = {"$group": {"_id": "$unique_id", "first": {"$first": "$$ROOT"}}}
"""The stage that leaves one document, as ``first``, of each message."""


def summary_stages(root: str) -> list[Document]:
    """Stages that group by source and traits; ``root`` is where the fields are, such as ``$``."""
    group = {
        "_id": {"source": f"{root}broker_id", "traits": f"{root}traits"},
        "messages": {"$sum": 1},
        "bytes": {"$sum": f"{root}size"},
        "oldest": {"$min": f"{root}publish_time_us"},
        "newest": {"$max": f"{root}publish_time_us"},
    }
    return [{"$group": group}]


def summaries(found: Sequence[Document]) -> list[SourceSummary]:
    """What these stages found, by source."""
    by_source: dict[str, list[Document]] = {}
    for document in found:
        by_source.setdefault(document["_id"]["source"], []).append(document)
    return [_summary(source, by_source[source]) for source in sorted(by_source)]


def _summary(source: str, parts: Sequence[Document]) -> SourceSummary:
    return SourceSummary(
        source=source,
        messages=sum(part["messages"] for part in parts),
        bytes=sum(part["bytes"] for part in parts),
        oldest=time_of(min((part["oldest"] for part in parts if part["oldest"] is not None), default=None)),
        newest=time_of(max((part["newest"] for part in parts if part["newest"] is not None), default=None)),
        traits={part["_id"]["traits"]: part["messages"] for part in parts},
    )


def time_of(microseconds: int | None) -> datetime | None:
    """A publish time; None stays None."""
    return None if microseconds is None else moment(microseconds)
