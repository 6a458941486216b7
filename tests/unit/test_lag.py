"""Runners ask for the lag from threads of their own, while shards and partitions come and go."""

from __future__ import annotations

import threading

import pytest

from transforms import read_batches
from transforms.brokers import Partition
from transforms.brokers.kafka import open_reader
from transforms.read_batches import Positions
from transforms.reading.source import Source


class _Shard:
    """While it is asked, another one is opened."""

    def __init__(self, shards: dict[tuple[str, int, int], object]) -> None:
        self._shards = shards

    def lag(self) -> int:
        self._shards["another", len(self._shards), 2] = self
        return 7


def test_a_shard_that_is_opened_meanwhile_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    shards: dict[tuple[str, int, int], object] = {}
    shards.update({("orders", number, 2): _Shard(shards) for number in (0, 1)})
    monkeypatch.setattr(read_batches, "_shards", shards)
    assert read_batches._Provider().restriction_size(0, Positions()) == 7


def test_a_partition_that_is_assigned_meanwhile_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = open_reader("kafka://127.0.0.1:1/orders", {}, group="g")
    reader._positions = {Partition("orders", number): 3 for number in (0, 1)}

    def lag(partition: Partition, position: int) -> int:
        reader._positions[Partition("orders", len(reader._positions))] = 0
        return position

    monkeypatch.setattr(reader, "_partition_lag", lag)
    assert reader.lag() == {Partition("orders", 0): 3, Partition("orders", 1): 3}
    reader.close()


class _Slow:
    """Its broker is away: it closes when the test ends."""

    def __init__(self, goes_on: threading.Event) -> None:
        self.lock, self.used, self.goes_on = threading.Lock(), 0.0, goes_on

    def close(self) -> None:
        self.goes_on.wait(60)


def test_a_shard_that_is_slow_to_close_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on, source = threading.Event(), Source("kafka://127.0.0.1:1/orders")
    monkeypatch.setattr(read_batches, "_shards", {("another", 0, 1): _Slow(goes_on)})
    monkeypatch.setattr(read_batches, "_UNUSED_AFTER", -1.0)
    opening = threading.Thread(target=read_batches._obtain, args=(source, 0, 1), daemon=True)
    opening.start()
    opening.join(20)
    assert not opening.is_alive()
    assert [number for _, number, _ in read_batches._shards] == [0]
    goes_on.set()
    read_batches.close_shards()
