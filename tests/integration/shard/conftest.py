"""A topic and the source that reads it, in small and short batches."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests._reading import SOON
from tests.servers.kafka import Kafka
from transforms.reading.source import Source


@pytest.fixture
def topic() -> str:
    """The name of a topic that there is not yet."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def source(kafka: Kafka, topic: str, tmp_path: Path) -> Source:
    """Of a job with this topic and a lake of its own."""
    lake = f"file://{tmp_path}/lake"
    return Source(f"{kafka.url}/{topic}", lake=lake, limits=SOON, purpose=lake)
