"""What every broker must do whose server is killed: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from tests._brokers import (
    Site,
    fetch,
    numbered,
    reading,
    together,
)
from tests._traits import BrokerTrait
from transforms.brokers import (
    Fetched,
    PublishOptions,
)
from transforms.errors import TransientError


@pytest.mark.needs(BrokerTrait.DURABLE)
class TestKills:
    def test_a_server_killed_while_publishing_and_reading_loses_and_repeats_nothing(self, site: Site) -> None:
        topic, chunks = site.topic(), [numbered(500, 500 * chunk) for chunk in range(40)]
        with ThreadPoolExecutor() as threads, reading(site.reader(topic)) as reader:
            writer = threads.submit(publish_all, site, topic, chunks)
            fetched = list[Fetched]()
            for so_far in (2000, 18_000):
                fetched += fetch(reader, so_far - sum(len(one.messages) for one in fetched), 60, writer)
                site.server.kill()
                site.server.start()
            writer.result(60)
            fetched += fetch(reader, 20_000 - sum(len(one.messages) for one in fetched), 60)
            fetched += reader.poll(0.5)
        assert together(fetched)["data"].to_pylist() == [b"%d" % number for number in range(20_000)]


def publish_all(site: Site, topic: str, chunks: list[pa.Table]) -> None:
    """As a resubmission does: after trouble, begin again behind what is committed."""
    publisher, done, begun = site.publisher(topic, f"kill-{topic}"), 0, False
    while done < len(chunks):
        try:
            if not begun:
                done = publisher.begin() or done
                begun = True
            publisher.send(chunks[done], PublishOptions(original_time=False))
            assert publisher.commit(done + 1) == []
            done += 1
        except TransientError:
            begun = False
            time.sleep(0.1)
    publisher.close()
