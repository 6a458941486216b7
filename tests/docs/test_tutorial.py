"""The tutorial, as its reader does it: with Kafka's own tools, to messages that are compared at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs._blocks import Session, indexed
from tests.servers import Unavailable
from tests.servers.kafka import Kafka
from tests.servers.kafka_tools import KafkaTools


@pytest.fixture
def tools() -> Path:
    try:
        return KafkaTools.install()
    except Unavailable as missing:
        pytest.skip(str(missing))


def test_the_tutorial_ends_with_equal_messages(kafka: Kafka, tools: Path, tmp_path: Path) -> None:
    def archived() -> bool:
        return indexed(f"sqlite://{tmp_path}/index.db") == 1000

    # Where others keep the processors busy, a consumer may be silent for long before its first message.
    session = Session(tmp_path, {"broker:9092": kafka.bootstrap, "15000": "60000"}, tools)
    printed = session.run("docs/tutorial.md", __file__, ready=archived)
    assert "The same 500 messages, unchanged." in printed, printed
    assert not (tmp_path / "lake").exists()
