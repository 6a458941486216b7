"""Servers that tests share: each is started by the first test that asks for it.

With pytest-xdist each worker has servers of its own; tests use topics, buckets and databases of
their own. Each module finds Kafka without topics, so that the names of its topics need to differ
only within it. Where a server cannot be had, its tests are skipped with the line that would install
it; with ``CI=true`` they fail instead.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings

from tests._brokers import NatsSite
from tests.servers import Server, Unavailable
from tests.servers.azurite import Azurite
from tests.servers.gcs import GCS
from tests.servers.kafka import Kafka
from tests.servers.minio import MinIO
from tests.servers.mongodb import MongoDB
from tests.servers.moto import Moto
from tests.servers.nats import Nats
from tests.servers.pubsub import Pubsub
from tests.servers.seaweed import Seaweed
from transforms.indexes import Index, sqlite
from transforms.lake import Lake

_S = TypeVar("_S", bound=Server)
_STDERR = pytest.StashKey[int]()
_HANGS_AFTER = 1200.0
"""Seconds; longer than the longest timeout of a test, its set-up included."""

_LONGEST_FIRST = (
    "flink/test_persist.py",
    "integration/test_resubmit_kills.py",
    "integration/test_persist_kills.py",
    "flink/",
    "integration/test_clusters_",
    "integration/",
    "pipeline/",
    "e2e/",
    "api/",
    "contract/",
)
"""Beginnings of the places of modules, in the order in which they are run; the rest comes last."""

# How long an example takes is the machine's affair. With CI=true Hypothesis makes the same examples
# each time, so that a build fails by what was changed; at a developer's it tries others each time.
settings.register_profile("tests", settings.default, deadline=None)
settings.load_profile("tests")


def running(server: type[_S]) -> Iterator[_S]:
    """Run a server while the fixture that yields from this lasts."""
    made = server()
    try:
        made.start()
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        yield made
    finally:
        made.stop()
        made.close()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake of the test's own."""
    return Lake(f"file://{tmp_path}/lake")


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """An empty index of the test's own."""
    return sqlite.open(f"sqlite://{tmp_path}/index.db")


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[Kafka]:
    yield from running(Kafka)


@pytest.fixture(scope="module")
def kafka(kafka_server: Kafka) -> Iterator[Kafka]:
    yield kafka_server
    kafka_server.delete_topics()


@pytest.fixture(scope="session")
def nats() -> Iterator[Nats]:
    yield from running(Nats)


@pytest.fixture(scope="session")
def nats_site(nats: Nats) -> NatsSite:
    return NatsSite(nats)


@pytest.fixture
def subject(nats_site: NatsSite) -> str:
    """A subject of a stream of its own, which forgets the ids of its messages after ten minutes."""
    name = f"s{uuid.uuid4().hex[:10]}"
    nats_site.do(lambda js: js.add_stream(name=name, subjects=[f"{name}.>"], duplicate_window=600))
    return f"{name}.copy"


@pytest.fixture(scope="session")
def pubsub() -> Iterator[Pubsub]:
    yield from running(Pubsub)


@pytest.fixture(scope="session")
def mongodb() -> Iterator[MongoDB]:
    yield from running(MongoDB)


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    yield from running(Moto)


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    yield from running(Seaweed)


@pytest.fixture(scope="session")
def minio() -> Iterator[MinIO]:
    yield from running(MinIO)


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    yield from running(Azurite)


@pytest.fixture(scope="session")
def gcs() -> Iterator[GCS]:
    yield from running(GCS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules first, so that at the end no worker is left with one of them."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    place = item.path.relative_to(item.config.rootpath / "tests").as_posix()
    return next((n for n, start in enumerate(_LONGEST_FIRST) if place.startswith(start)), len(_LONGEST_FIRST))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_STDERR] = os.dup(2)  # before what tests print is caught
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So a shell starts what runs in the background, and commands that tests interrupt would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that hangs for good ends its process, which tells where all threads are.

    pytest-timeout lets each test go on once it has failed, and so does pytest's own faulthandler: what
    waits for ever while it is torn down would have all others wait.
    """
    _watch(item)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """pytest has just put the watch away."""
    if isinstance(node, pytest.Item):
        _watch(node)


def _watch(item: pytest.Item) -> None:
    faulthandler.dump_traceback_later(_HANGS_AFTER, file=item.config.stash[_STDERR], exit=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A server that is missing fails the build; elsewhere it is a skip that names the remedy."""
    report = yield
    skipped = call.excinfo is not None and call.excinfo.errisinstance(pytest.skip.Exception)
    if skipped and os.environ.get("CI") == "true" and _for_want_of_a_server(call.excinfo):
        report.outcome = "failed"
        report.longrepr = f"in CI every server must be there: {call.excinfo.value}"  # type: ignore[union-attr]
    return report


def _for_want_of_a_server(excinfo: pytest.ExceptionInfo[BaseException] | None) -> bool:
    return excinfo is not None and isinstance(excinfo.value.__context__, Unavailable)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say loudly which servers were missing."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in skipped
        if isinstance(report.longrepr, tuple)
    }
    missing = sorted(reason for reason in reasons if "install it with:" in reason)
    if missing:
        terminalreporter.section("NOT TESTED for want of a server", sep="!", red=True, bold=True)
        for reason in missing:
            terminalreporter.write_line(reason)
