"""Shards as commands of their own, as on several machines: each partition is archived once, by one."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.integration.harness import Archive, Persist, expected, metric
from tests.integration.load import Load
from tests.servers import free_port, wait_until
from tests.servers.kafka import Kafka
from transforms.lake import Lake


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(Lake(f"file://{tmp_path}/lake"), f"sqlite://{tmp_path}/index.db")


def _shard(kafka: Kafka, topic: str, archive: Archive, log: Path, shard: str, port: int) -> Persist:
    return Persist(
        log,
        source=f"{kafka.url}/{topic}",
        lake=archive.lake.url,
        index=archive.index_url,
        shard=shard,
        metrics_port=str(port),
    )


def test_two_shards_archive_every_partition_once_and_a_third_may_join(
    kafka: Kafka, archive: Archive, tmp_path: Path
) -> None:
    # By this name each of two and of three shards has some of the partitions.
    topic = kafka.create_topic("sharded", partitions=8)
    ports = [free_port() for _ in range(4)]

    def start(shard: str, port: int) -> Persist:
        name = shard.replace("/", "-of-")
        return stack.enter_context(_shard(kafka, topic, archive, tmp_path / name, shard, port))

    def archived(port: int) -> float:
        return metric(port, "persistor_messages_total", source=topic) or 0

    with ExitStack() as stack:
        shards = [start(f"{number}/2", ports[number]) for number in range(2)]
        with Load(kafka, {topic: 8}, rate=2000):
            wait_until(lambda: all(archived(port) > 1000 for port in ports[:2]), 60, "both shards to archive")
            shards[1].drain()
            # While shards are counted anew some partitions have two readers and some wait for one.
            shards += [start(f"{number}/3", ports[number + 1]) for number in (1, 2)]
            wait_until(
                lambda: all(archived(port) > 1000 for port in ports[2:]), 60, "the new shards to archive"
            )
        shards[0].drain()
        shards.append(start("0/3", free_port()))
        there = expected(kafka, topic)
        archive.wait_for(there, shards[-1])
        for shard in shards[2:]:
            shard.drain()
    assert len({id.split("_")[1] for id in there}) == 8
    archive.check(there)


def test_processes_of_a_command_end_with_each_other_and_with_it(
    kafka: Kafka, archive: Archive, tmp_path: Path
) -> None:
    topic = kafka.create_topic("in-processes", partitions=8)
    port = free_port()
    places = {"source": f"{kafka.url}/{topic}", "lake": archive.lake.url, "index": archive.index_url}
    persist = Persist(tmp_path / "log", processes="3", metrics_port=str(port), **places)

    def archiving() -> list[psutil.Process]:
        wait_until(lambda: min(map(messages, range(port, port + 3))) > 500, 90, "all to archive")
        below = psutil.Process(persist.pid).children()
        # Another one watches over what they leave behind.
        return [one for one in below if "spawn_main" in " ".join(one.cmdline())]

    def messages(of: int) -> float:
        return metric(of, "persistor_messages_total", source=topic) or 0 if persist.pid else 0

    with Load(kafka, {topic: 8}, rate=1000):
        with persist:
            archiving()[1].kill()
            assert persist.ends() == 1
            assert "persistor persist, process 1: killed by SIGKILL" in persist.output()
            assert persist.output().count("killed by") == 1
        with persist:
            shards = archiving()
            os.kill(persist.pid, signal.SIGKILL)
            assert persist.ends() == -signal.SIGKILL
            _, alive = psutil.wait_procs(shards, 60)
            assert alive == []
        with persist:
            shards = archiving()
            persist.drain()
            assert not any(shard.is_running() for shard in shards)
    with persist:
        there = expected(kafka, topic)
        archive.wait_for(there, persist)
        persist.drain()
    archive.check(there)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_stops_processes_in_good_order(
    kafka: Kafka, archive: Archive, tmp_path: Path, number: signal.Signals
) -> None:
    topic = kafka.create_topic(f"in-a-group-{number}", partitions=8)
    port = free_port()
    places = {"source": f"{kafka.url}/{topic}", "lake": archive.lake.url, "index": archive.index_url}
    # What is read stays in open batches: to be written at the end, or not at all.
    open_batches = {"batch_messages": "1000000", "batch_age": "1h"}
    persist = Persist(tmp_path / "log", processes="2", metrics_port=str(port), **places, **open_batches)
    kafka.produce(topic, ({"partition": n % 8, "value": b"%d" % n} for n in range(1000)))

    def all_read() -> bool:
        def both(name: str) -> list[float]:
            ports = (port, port + 1) if persist.pid else ()
            return [metric(of, f"persistor_{name}", source=topic) or 0 for of in ports]

        # A shard that has read nothing yet has no lag either.
        return all(both("oldest_unarchived_seconds")) and not any(both("lag_messages"))

    with persist:
        wait_until(all_read, 90, "everything to be read")
        os.killpg(persist.pid, number)
        assert persist.ends() == 0, persist.output()
    assert "killed by" not in persist.output()
    archive.check(expected(kafka, topic))
