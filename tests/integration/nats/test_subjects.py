"""What of NATS is read: streams that come and go, wildcards, exclusions, URLs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import _reading
from tests._brokers import NatsSite, fetch, numbered, reading, together
from tests.integration.nats._streams import (
    add_stream,
    source,
)
from tests.servers import wait_until
from transforms.brokers import Partition
from transforms.brokers.nats import open_publisher, open_reader
from transforms.errors import ConfigurationError, TransientError


def test_a_named_stream_that_is_deleted_is_waited_for(
    nats: NatsSite, stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.reading.assignment._DISCOVER_EVERY", 0.0)
    add_stream(nats, stem)
    nats.publish(f"{stem}.a", numbered(2))
    with _reading.reading(source(nats, f"{stem}.a", tmp_path)) as opened:
        opened.until(2)
        nats.delete(stem)
        assert opened.turn() == []
        add_stream(nats, stem)
        nats.publish(f"{stem}.a", numbered(2))
        opened.until(4)
    assert opened.ids == [f"{stem}.a_0_1", f"{stem}.a_0_2", f"{stem}.a~2_0_1", f"{stem}.a~2_0_2"]


def test_a_stream_that_is_deleted_while_it_is_read_is_no_end(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    partition = Partition(f"{stem}.a", 0)
    with reading(nats.reader(partition.topic)) as reader:
        reader.poll(0)
        for subject in ("a", "b", "a"):
            nats.publish(f"{stem}.{subject}", numbered(1))
        wait_until(lambda: reader.lag() == {partition: 2}, 60, "two messages around a hole")
        nats.delete(stem)
        with pytest.raises(TransientError, match="is gone"):
            reader.poll(0)
        assert reader.poll(0) == []


def test_a_wide_filter_reads_every_stream_and_new_ones(nats: NatsSite, stem: str) -> None:
    add_stream(nats, f"{stem}-1", subjects=[f"{stem}.orders.*", f"{stem}.a.*.x"])
    reader = nats.reader(f"{stem}.*.*,{stem}.a.b.>", exclude=[f"{stem}.dead.*"])
    assert {p.topic for p in reader.discover()} == {f"{stem}.orders.*", f"{stem}.a.b.x"}
    add_stream(nats, f"{stem}-2", subjects=[f"{stem}.dead.x", f"{stem}.new.>"])
    found = {p.topic for p in reader.discover()}
    assert found == {f"{stem}.orders.*", f"{stem}.a.b.x", f"{stem}.new.*"}
    reader.close()


def test_excluded_subjects_inside_a_filter_are_left_out(nats: NatsSite, stem: str) -> None:
    add_stream(nats, stem)
    for subject in ("a", "dead", "b"):
        nats.publish(f"{stem}.{subject}", numbered(1))
    with reading(nats.reader(f"{stem}.>", exclude=[f"{stem}.dead"])) as reader:
        assert together(fetch(reader, 2))["topic"].to_pylist() == [f"{stem}.a", f"{stem}.b"]


def test_key_value_buckets_are_read_only_when_they_are_named(nats: NatsSite, stem: str) -> None:
    nats.do(lambda js: js.create_key_value(bucket=stem))
    assert not [p for p in discovered(nats, ">") if p.topic.startswith("$")]
    assert discovered(nats, f"$KV.{stem}.>") == [Partition(f"$KV.{stem}.>", 0)]


def discovered(nats: NatsSite, subject: str) -> list[Partition]:
    reader = nats.reader(subject, group="g")
    try:
        return list(reader.discover())
    finally:
        reader.close()


def test_overlapping_filters_are_refused(nats: NatsSite) -> None:
    with pytest.raises(ConfigurationError, match="archived twice"):
        nats.reader("orders.*,orders.new")


@pytest.mark.parametrize(
    "url", ["nats://", "nats://h", "nats://h:x/a", "nats://h/a b", "nats://h/a..b", "nats://h/>.a"]
)
def test_a_url_that_cannot_be_right_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_reader(url, {}, group="g")


def test_a_destination_is_one_subject_without_wildcards(nats: NatsSite) -> None:
    for path in ("a,b", "a.*"):
        with pytest.raises(ConfigurationError, match="one subject"):
            open_publisher(f"{nats.server.url}/{path}", {})
