"""What the benchmarks run in processes of their own: a producer, and the archive's work without Beam."""

from __future__ import annotations

import gc
import itertools
import json
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Producer

from bench.payloads import messages
from transforms import metrics, registry
from transforms.brokers import Acknowledgement
from transforms.bundles.overlap import Overlap
from transforms.lake import Lake
from transforms.model import Layout, WrittenFile
from transforms.reading.buffers import Limits
from transforms.reading.shard import Ready, Shard
from transforms.reading.source import Source
from transforms.writing import BatchWriter

_PRODUCING = {
    "enable.idempotence": True,
    "linger.ms": 20,
    "batch.size": 1_000_000,
    "queue.buffering.max.messages": 500_000,
    "queue.buffering.max.kbytes": 1_000_000,
}


def produce(port: int, *, bootstrap: str, topic: str, count: int, size: int, config: dict[str, Any]) -> None:
    """Publish, every message acknowledged by the broker; prints what it took."""
    del port
    pool = messages(size)
    producer = Producer({**_PRODUCING, **config, "bootstrap.servers": bootstrap})
    failed: list[Any] = []
    started, used = time.monotonic(), time.process_time()
    for message in itertools.islice(itertools.cycle(pool), count):
        _put(producer, topic, message, lambda error, _: failed.append(error) if error else None)
    left = producer.flush(600)
    seconds, cpu = time.monotonic() - started, time.process_time() - used
    if failed or left:
        raise RuntimeError(f"{len(failed) + left} messages were not acknowledged")
    print(json.dumps({"seconds": seconds, "cpu": cpu}))


def _put(producer: Producer, topic: str, message: dict[str, Any], report: Callable[..., None]) -> None:
    while True:
        try:
            producer.produce(topic, on_delivery=report, **message)
        except BufferError:
            producer.poll(0.05)
        else:
            return


def loop(port: int, *, source: str, lake: str, index: str | None, batch: int, format: str) -> None:
    """Archive as the job does, with the same reader, claims, writer and index, in a plain loop."""
    metrics.serve(port, "127.0.0.1")
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    gc.freeze()
    gc.set_threshold(200_000, 50, 1000)
    limits = Limits(messages=batch, age=1.0)
    read = Source(source, lake=lake, limits=limits, layout=Layout(format=format), purpose=lake)
    shard = Shard(read, 0, 1, lambda: bool(stopped))
    archive = _Archive(lake, index)
    at = ""
    while not stopped:
        ready = shard.turn(1.0, at)
        for one in ready:
            at = one.at
            archive.add(one)
        shard.durable(archive.finish())
    shard.close()


class _Archive:
    """Writes on four threads and inserts on two, as the job does; acks follow a turn's work."""

    def __init__(self, lake: str, index: str | None) -> None:
        self._write = Overlap(BatchWriter(Lake(lake), entries=bool(index)).write, 4, 128 * 2**20)
        self._index = registry.index(index).open(index) if index else None
        self._insert: Overlap[WrittenFile, int] = Overlap(self._enter, 2, 64 * 2**20)
        self._acks: list[tuple[str, Acknowledgement]] = []

    def add(self, ready: Ready) -> None:
        self._acks.append((ready.key, ready.acknowledgement))
        if ready.batch is not None:
            for files, _ in self._write.add(ready.batch, ready.batch.messages.nbytes):
                self._hand_on(files)

    def finish(self) -> list[tuple[str, Acknowledgement]]:
        for files, _ in self._write.finish():
            self._hand_on(files)
        for _ in self._insert.finish():
            pass
        done, self._acks = self._acks, []
        return done

    def _hand_on(self, files: list[WrittenFile]) -> None:
        if self._index is not None:
            for file in files:
                for _ in self._insert.add(file, file.entries.nbytes):
                    pass

    def _enter(self, file: WrittenFile) -> int:
        assert self._index is not None
        inserted = self._index.insert(file.entries)
        metrics.INDEXED.labels(file.source).inc(inserted)
        return inserted


_TASKS: dict[str, Callable[..., None]] = {"produce": produce, "loop": loop}

if __name__ == "__main__":
    _TASKS[sys.argv[1]](int(sys.argv[3]), **json.loads(sys.argv[2]))
