"""Archiving and producing: the job beside a plain loop of the same work."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.measure import PORT, Figure, Watched, work
from tests.servers.kafka import Kafka
from transforms.lake import INTERNAL, Lake

__all__ = ["archive", "fill", "job"]


def fill(
    kafka: Kafka,
    count: int,
    size: int,
    partitions: int = 4,
    *,
    producer: Mapping[str, Any] | None = None,
    **config: str | int,
) -> tuple[str, Figure]:
    """A new topic with messages in it, and how fast they were published.

    Args:
        producer: more properties of the producer.
        config: of the topic.
    """
    topic = kafka.create_topic(f"bench-{uuid.uuid4().hex[:8]}", partitions, retention_ms=-1, **config)
    how = {"count": count, "size": size, "config": producer or {}}
    watched = work("produce", bootstrap=kafka.bootstrap, topic=topic, **how)
    took = json.loads(watched.output())
    return topic, Figure(f"{size} B", count, took["seconds"], took["cpu"], watched.peak)


def archive(
    how: str,
    kafka: Kafka,
    topic: str,
    count: int,
    directory: Path,
    *,
    index: str | None = None,
    batch: int = 10_000,
    format: str = "parquet",
) -> Figure:
    """Archive a topic from its beginning.

    Args:
        how: ``persist`` or ``loop``.
    """
    lake = f"file://{directory}/lake"
    source = f"{kafka.url}/{topic}"
    run = _loop if how == "loop" else job
    watched = run(source, lake, index, batch, format)
    metric = "persistor_indexed_total" if index else "persistor_messages_total"
    figure = watched.figure(how, lambda: watched.count(metric), count)
    watched.stop()
    stored = sum(size for path, size in Lake(lake).list() if not path.startswith(INTERNAL))
    return replace(figure, memory=watched.peak, note=f"{stored / count:.0f} B a message in the lake")


def job(source: str, lake: str, index: str | None, batch: int, format: str) -> Watched:
    """``persistor persist`` in one process."""
    given = {"source": source, "lake": lake, "index": index or "none", "format": format}
    options = [f"--{name}={value}" for name, value in given.items()]
    limits = [f"--batch_messages={batch}", "--batch_age=1s", f"--metrics_port={PORT}"]
    return Watched([sys.executable, "-m", "pipelines", "persist", *options, *limits])


def _loop(source: str, lake: str, index: str | None, batch: int, format: str) -> Watched:
    return work("loop", source=source, lake=lake, index=index, batch=batch, format=format)
