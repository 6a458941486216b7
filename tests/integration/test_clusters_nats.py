"""A cluster of three NATS servers and streams of three replicas, whose leaders are killed."""

from __future__ import annotations

import subprocess
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.api import StreamInfo

from tests._archive import archive
from tests._brokers import fetch, jetstream, numbered, reading, together
from tests._messages import row, table
from tests._processes import spawned
from tests._replay import command, settings
from tests.integration.harness import Archive, Persist
from tests.servers import Unavailable, wait_until
from tests.servers.nats import Nats, NatsCluster
from transforms import registry
from transforms.brokers import OffsetGapError, Partition, PublishOptions, Reader
from transforms.errors import TransientError
from transforms.indexes import Index
from transforms.lake import Lake

pytestmark = pytest.mark.timeout(300)
_T = TypeVar("_T")

MESSAGES = 20_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[NatsCluster]:
    try:
        Nats.install()
    except Unavailable as missing:
        pytest.skip(str(missing))
    with NatsCluster() as started:
        yield started


def ask(cluster: NatsCluster, call: Callable[[JetStreamContext], Coroutine[Any, Any, _T]]) -> _T:
    """Ask any server until one answers; meanwhile others are elected."""

    def answer() -> tuple[_T] | None:
        for member in cluster.members:
            try:
                return (jetstream(member.url, call),)
            except (Error, OSError):
                continue
        return None

    return wait_until(answer, 60, "an answer of JetStream")[0]


@pytest.fixture
def subject(cluster: NatsCluster) -> str:
    """The subject of a stream of three replicas, which has the same name."""
    name = f"c{uuid.uuid4().hex[:10]}"
    ask(cluster, lambda js: js.add_stream(name=name, subjects=[name], num_replicas=3, duplicate_window=600))
    return name


def leader(cluster: NatsCluster, stream: str) -> Nats:
    def name() -> str | None:
        found: StreamInfo = ask(cluster, lambda js: js.stream_info(stream))
        return found.cluster.leader if found.cluster else None

    return cluster.members[int(wait_until(name, 60, "a leader").removeprefix("n"))]


@contextmanager
def publishing(url: str) -> Iterator[None]:
    """Numbered messages; a chunk whose fate is unknown is sent again under the same ids."""
    stop = threading.Event()

    def run() -> None:
        publisher, number = registry.broker(url).open_publisher(url, {}), 0
        publisher.begin()
        while not stop.wait(0.05):
            try:
                publisher.send(numbered(50, number), PublishOptions(original_time=False))
                assert publisher.commit(0) == []
            except TransientError:
                continue
            number += 50
        publisher.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(120)
    assert not thread.is_alive()


def test_a_stream_is_archived_once_and_acknowledged_whichever_leaders_are_killed(
    cluster: NatsCluster, subject: str, tmp_path: Path
) -> None:
    url, lake, index = f"{cluster.url}/{subject}", f"file://{tmp_path}/lake", f"sqlite://{tmp_path}/index.db"
    archived = Archive(Lake(lake), index)
    with Persist(tmp_path / "log", source=url, lake=lake, index=index) as job:
        with publishing(url):
            for _ in range(2):
                wait_for_files(archived, job)
                with leader(cluster, subject).killed():
                    wait_for_files(archived, job)
                archived.check_not_overwritten()
        check = registry.broker(url).open_reader(url, {}, group="check")
        wait_until(lambda: not trouble(check), 60, "the cluster to answer")
        with reading(check) as reader:
            count = ask(cluster, lambda js: js.stream_info(subject)).state.messages
            stream = together(fetch(reader, count, 60)).to_pylist()
        expected = {f"{subject}_0_{row['offset']}": row["data"] for row in stream}
        archived.wait_for(expected, job)
        job.drain()
    assert len(expected) == count > 0
    rows = archived.messages().select(["id", "data"]).to_pylist()
    assert [(row["id"], row["data"]) for row in sorted(rows, key=place)] == list(expected.items())
    assert sorted(archived.entries()["id"].to_pylist()) == sorted(expected)
    floors = [
        consumer.ack_floor.stream_seq
        for consumer in ask(cluster, lambda js: js.consumers_info(subject))
        if consumer.ack_floor and consumer.config.description == "messages that Persistor has archived"
    ]
    assert stream[-1]["offset"] in floors


def test_a_stream_whose_only_server_is_away_is_waited_for_and_what_it_lost_is_reported(
    cluster: NatsCluster,
) -> None:
    name = f"c{uuid.uuid4().hex[:10]}"
    ask(cluster, lambda js: js.add_stream(name=name, subjects=[f"{name}.a"], storage="memory"))
    ask(cluster, lambda js: js.add_stream(name=f"{name}-3", subjects=[f"{name}.b"], num_replicas=3))
    ask(cluster, lambda js: js.publish(f"{name}.a", b""))
    ask(cluster, lambda js: js.publish(f"{name}.b", b"of others"))
    partition, other = Partition(f"{name}.a", 0), Partition(f"{name}.b", 0)
    pattern, late = (
        registry.broker(cluster.url).open_reader(f"{cluster.url}/{name}.{rest}", {}, group="g")
        for rest in ("*", "a")
    )
    found = pattern.discover()
    assert list(found) == [partition, other]
    with leader(cluster, name).killed():
        wait_until(lambda: "does not answer" in trouble(late), 60, "a cluster that misses a stream")
        wait_until(lambda: not trouble(pattern), 60, "the other stream's leader")
        pattern.assign(dict.fromkeys(found, 1))
        assert together(fetch(pattern, 1))["data"].to_pylist() == [b"of others"]
    wait_until(lambda: not trouble(late), 60, "the stream to be back")
    late.assign({partition: 2})
    with pytest.raises(OffsetGapError) as gap:
        wait_until(lambda: late.poll(0.5), 60, "a gap")
    assert gap.value.gaps == {partition: 1}
    pattern.close()
    late.close()


def trouble(reader: Reader) -> str:
    try:
        reader.discover()
    except TransientError as error:
        return str(error)
    return ""


def place(row: dict[str, Any]) -> int:
    return int(row["id"].rpartition("_")[2])


def wait_for_files(archived: Archive, job: Persist) -> None:
    before = len(archived.files())
    wait_until(lambda: bool(job.pid) and len(archived.files()) > before + 2, 90, "files")


def test_a_resubmission_sends_each_message_once_although_the_leader_is_killed(
    cluster: NatsCluster, subject: str, lake: Lake, index: Index, tmp_path: Path
) -> None:
    messages = table(*[row(offset=n, data=b"%d" % n) for n in range(MESSAGES)])
    archive(lake, index, messages)
    made = settings(tmp_path, f"{cluster.url}/{subject}")
    rate = ["--selection", made.selection or "", "--messages_per_second", str(MESSAGES // 8)]
    with spawned(command(made, *rate), stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: sent(index) > MESSAGES // 4, 60, "the job to get on")
        with leader(cluster, subject).killed():
            before = sent(index)
            wait_until(lambda: sent(index) > before, 150, "another leader to take messages")
        assert process.wait(120) == 0
    [job] = index.list_jobs(9)
    assert (job["state"], job["progress"]["published"], job["progress"]["failed"]) == (
        "COMPLETED",
        MESSAGES,
        0,
    )
    url = f"{cluster.url}/{subject}"
    with reading(registry.broker(url).open_reader(url, {}, group="check")) as reader:
        arrived = together(fetch(reader, MESSAGES, 60))
        assert arrived["data"].to_pylist() == messages["data"].to_pylist()
        assert reader.poll(0.5) == []


def sent(index: Index) -> int:
    return sum(job["progress"]["published"] for job in index.list_jobs(9))
