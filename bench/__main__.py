"""``python -m bench [BENCHMARK …]``: run benchmarks, by default all, and keep the results."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.archive import archive, fill, job
from bench.bound import BACKLOGS, bounded
from bench.finding import searching
from bench.measure import Figure
from bench.order import ordered
from bench.pace import RATES, paced
from bench.partitions import many_partitions
from bench.planning import planning
from bench.resubmit import resubmit, single
from bench.results import write_section
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB

_SIZES = (75, 200, 1_000, 10_000)
_BATCHES = (1_000, 5_000, 10_000, 50_000)
_FORMATS = ("parquet", "avro", "jsonl")
_SAMPLE = 30.0


def _produce(kafka: Kafka, messages: int) -> Iterator[Figure]:
    for size in _SIZES:
        yield fill(kafka, _fitting(messages, size), size)[1]


def _archive(kafka: Kafka, messages: int) -> Iterator[Figure]:
    topic, _ = fill(kafka, messages, 200)
    yield from _both(kafka, topic, messages, "")


def _mongodb(kafka: Kafka, messages: int) -> Iterator[Figure]:
    topic, _ = fill(kafka, messages // 2, 200)
    with MongoDB() as server:
        for how in ("loop", "persist"):
            index = server.url.replace("/persistor", f"/{how}")
            yield _one(how, kafka, topic, messages // 2, index=index)


def _sqlite(kafka: Kafka, messages: int) -> Iterator[Figure]:
    topic, _ = fill(kafka, messages // 2, 200)
    for how in ("loop", "persist"):
        with _directory() as directory:
            yield _one(how, kafka, topic, messages // 2, index=f"sqlite://{directory}/index.db")


def _sizes(kafka: Kafka, messages: int) -> Iterator[Figure]:
    for size in _SIZES:
        count = _fitting(messages, size)
        topic, _ = fill(kafka, count, size)
        yield from _both(kafka, topic, count, f", {size} B")
        kafka.delete_topic(topic)


def _batches(kafka: Kafka, messages: int) -> Iterator[Figure]:
    topic, _ = fill(kafka, messages, 200)
    for batch in _BATCHES:
        figure = _one("persist", kafka, topic, messages, batch=batch)
        yield replace(figure, name=f"persist, batches of {batch:,}")


def _formats(kafka: Kafka, messages: int) -> Iterator[Figure]:
    topic, _ = fill(kafka, messages // 2, 200)
    for format in _FORMATS:
        figure = _one("persist", kafka, topic, messages // 2, format=format)
        yield replace(figure, name=f"persist, {format}")


def _resubmit(kafka: Kafka, messages: int) -> Iterator[Figure]:
    count = messages // 2
    with _directory() as directory:
        yield from resubmit(kafka, f"sqlite://{directory}/index.db", count, 200, directory)
    with _directory() as directory, MongoDB() as server:
        yield from resubmit(kafka, server.url, count, 200, directory)


def _order(kafka: Kafka, messages: int) -> Iterator[Figure]:
    with _directory() as directory:
        yield from ordered(kafka, messages // 2, directory)


def _single(kafka: Kafka, messages: int) -> Iterator[Figure]:
    count = messages // 4
    with _directory() as directory:
        yield single(kafka, f"sqlite://{directory}/index.db", count, directory)
    with _directory() as directory, MongoDB() as server:
        yield single(kafka, server.url, count, directory)


def _pace(kafka: Kafka, _messages: int) -> Iterator[Figure]:
    for rate in RATES:
        with _directory() as directory:
            yield paced(kafka, rate, directory)


def _memory(kafka: Kafka, messages: int) -> Iterator[Figure]:
    count = messages * 5
    topic, _ = fill(kafka, count, 200)
    with _directory() as directory:
        watched = job(f"{kafka.url}/{topic}", f"file://{directory}/lake", None, 10_000, "parquet")
        tenths = []
        for tenth in range(1, 11):
            name = f"up to {count * tenth // 10:,}"
            figure = watched.figure(
                name, lambda: watched.count("persistor_messages_total"), count * tenth // 10
            )
            tenths.append(replace(figure, memory=watched.memory[-1][1], note="memory then"))
        watched.stop()
    yield from tenths


def _bound(kafka: Kafka, _messages: int) -> Iterator[Figure]:
    for backlog in BACKLOGS:
        with _directory() as directory:
            yield bounded(kafka, backlog, directory)


def _partitions(kafka: Kafka, messages: int) -> Iterator[Figure]:
    yield from many_partitions(kafka, messages // 20_000, 100)


def _search(kafka: Kafka, messages: int) -> Iterator[Figure]:
    sizes = [messages * 5 // factor for factor in (1000, 100, 10, 1)]
    with _directory() as directory, MongoDB(cache=6) as server:
        yield from searching(kafka, server.url, sizes, directory)


def _planning(kafka: Kafka, messages: int) -> Iterator[Figure]:
    with _directory() as directory, MongoDB(cache=2) as server:
        yield from planning(kafka, server.url, messages, directory)


_ALL: dict[str, Callable[[Kafka, int], Iterator[Figure]]] = {
    "produce": _produce,
    "archive": _archive,
    "archive-mongodb": _mongodb,
    "archive-sqlite": _sqlite,
    "sizes": _sizes,
    "batches": _batches,
    "formats": _formats,
    "resubmit": _resubmit,
    "order": _order,
    "single": _single,
    "pace": _pace,
    "memory": _memory,
    "bound": _bound,
    "partitions": _partitions,
    "search": _search,
    "planning": _planning,
}


def _both(kafka: Kafka, topic: str, count: int, name: str) -> Iterator[Figure]:
    for how in ("loop", "persist"):
        yield replace(_one(how, kafka, topic, count), name=how + name)


def _one(
    how: str,
    kafka: Kafka,
    topic: str,
    count: int,
    *,
    index: str | None = None,
    batch: int = 10_000,
    format: str = "parquet",
) -> Figure:
    with _directory() as directory:
        return archive(how, kafka, topic, count, directory, index=index, batch=batch, format=format)


def _fitting(messages: int, size: int) -> int:
    """Fewer of the large ones: a run shall take seconds, not minutes."""
    return min(messages, 500_000_000 // size)


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="persistor-bench-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("benchmarks", nargs="*", choices=[*_ALL, []], help="default: all of them")
    parser.add_argument("--messages", type=int, default=2_000_000, help="of a run of plain archiving")
    arguments = parser.parse_args()
    for name in arguments.benchmarks or _ALL:
        server = Kafka(java=["-Xmx1g"])
        # Short for tests; a busy broker that is fenced takes the client with it (librdkafka #5280).
        server.settings = "broker.session.timeout.ms=60000\n"
        with server as kafka:
            write_section(name, list(_ALL[name](kafka, arguments.messages)))


if __name__ == "__main__":
    main()
