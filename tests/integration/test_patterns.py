"""Patterns that match nothing: said at the start with what patterns are, and looked for from then on."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

import pytest

from tests._brokers import NatsSite, messages
from tests.integration.harness import Archive, Persist
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from transforms import registry
from transforms.errors import ConfigurationError
from transforms.lake import Lake

_GLOBS = "Patterns are globs (* any text, ? any character, [ab] one of these)"


def test_kafka_says_which_pattern_matches_nothing_and_reads_what_appears_later(
    kafka: Kafka, tmp_path: Path
) -> None:
    archive = Archive(Lake(f"file://{tmp_path}/lake"), f"sqlite://{tmp_path}/index.db")
    kafka.create_topic("there-1")
    where = {"lake": archive.lake.url, "index": archive.index_url}
    with Persist(tmp_path / "log", source=f"{kafka.url}/there-*,^ev.*,later-*", **where) as job:
        wait_until(lambda: job.pid and "later-*" in job.output(), 60, "what is said")
        kafka.create_topic("later-1")
        kafka.produce("later-1", [{"value": b"x"}])
        archive.wait_for(["later-1_0_0"], job)
        job.drain()
    told = job.output()
    for pattern in ("^ev.*", "later-*"):
        assert told.count(f"kafka: '{pattern}' matches nothing now. {_GLOBS}") == 1
    assert "there-*'" not in told


def test_kafka_says_what_patterns_are_where_a_name_cannot_be_one(kafka: Kafka) -> None:
    url = f"{kafka.url}/(a|b),plain"
    reader = registry.broker(url).open_reader(url, {}, group="g")
    with pytest.raises(ConfigurationError) as refused:
        reader.discover()
    reader.close()
    strange, plain = refused.value.problems
    assert strange.endswith(f"may not see it). {_GLOBS}, not regular expressions.")
    assert plain.endswith("(or this user may not see it).")


def test_nats_says_it_too(nats_site: NatsSite, caplog: pytest.LogCaptureFixture) -> None:
    name = f"p{uuid.uuid4().hex[:10]}"
    url = f"{nats_site.server.url}/{name}.>"
    reader = registry.broker(url).open_reader(url, {}, group="g")
    try:
        with caplog.at_level(logging.WARNING):
            assert reader.discover() == {}
            assert reader.discover() == {}
        assert caplog.text.count(f"nats: '{name}.>' matches nothing now.") == 1
        nats_site.do(lambda js: js.add_stream(name=name, subjects=[f"{name}.>"]))
        nats_site.publish(f"{name}.a", messages({"data": b"x"}))
        assert len(reader.discover()) == 1
    finally:
        reader.close()
