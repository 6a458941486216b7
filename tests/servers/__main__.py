"""``python -m tests.servers [deploy]``: fetches and builds servers, so that no test waits for one.

Without ``deploy`` it gets what ``make test`` needs, with it what ``make test-deploy`` needs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any, Protocol

from tests.servers import SERVERS, Unavailable
from tests.servers.azurite import Azurite
from tests.servers.chromium import Chromium
from tests.servers.flink import Flink
from tests.servers.gcs import GCS
from tests.servers.image import Debian
from tests.servers.kafka import Kafka
from tests.servers.kafka_tools import KafkaTools
from tests.servers.minio import MinIO
from tests.servers.mongodb import MongoDB
from tests.servers.moto import Moto
from tests.servers.nats import Nats
from tests.servers.programs import BOOT, COMPOSE, HELM, PROVIDER, TERRAFORM
from tests.servers.pubsub import Pubsub
from tests.servers.seaweed import Seaweed
from tests.servers.spark import Spark


class Installed(Protocol):
    """A server's class, or a program."""

    @property
    def name(self) -> str: ...

    def install(self) -> Any: ...


# With the seconds that each takes on two cores where there is nothing yet, beside another one of them.
# What is built from source comes first: it takes longest, and the downloads fit in beside it.
TESTS: Mapping[Installed, int] = {
    Pubsub: 100,
    BOOT: 75,
    Flink: 60,
    Spark: 40,
    Kafka: 20,
    KafkaTools: 20,
    MongoDB: 20,
    Seaweed: 15,
    Moto: 15,
    Azurite: 15,
    GCS: 5,
    Chromium: 5,
    Nats: 1,
}
DEPLOY: Mapping[Installed, int] = {
    PROVIDER: 330,
    MinIO: 300,
    COMPOSE: 250,
    HELM: 200,
    TERRAFORM: 200,
    BOOT: 75,
    Flink: 60,
    Debian: 40,
    Kafka: 20,
    MongoDB: 20,
}
_QUICK = 2.0
"""Seconds; what is ready sooner was there before, and needs no line of its own."""


class Fetching:
    """Installs servers, two at a time, and says how far that is.

    Args:
        servers: the servers, with the seconds that each usually takes.
        still: seconds without a line, after which there is one about what is going on.
    """

    def __init__(self, servers: Mapping[Installed, int], still: float = 20.0) -> None:
        self._servers = servers
        self._still = still
        self._usual = {server.name: f"usually {seconds} s" for server, seconds in servers.items()}
        self._started: dict[str, float] = {}
        self._missing: list[str] = []

    def lines(self) -> Iterator[str]:
        """Install all; a line for each that took its time, and one whenever nothing happened for long."""
        total = len(self._servers)
        yield f"The tests need {total} servers and programs in {SERVERS}; what is missing is fetched now."
        with ThreadPoolExecutor(2) as threads:
            waiting = {threads.submit(self._install, server) for server in self._servers}
            while waiting:
                done, waiting = wait(waiting, self._still, FIRST_COMPLETED)
                news = [line for future in done if (line := future.result())]
                for line in news if done else [self._going_on()]:
                    yield f"{total - len(waiting)} of {total}: {line}"
        yield from self._missing
        yield f"{total - len(self._missing)} of {total} are ready."

    def _install(self, server: Installed) -> str | None:
        self._started[server.name] = started = time.monotonic()
        try:
            server.install()
        except Unavailable as missing:
            self._missing.append(f"{server.name} is missing, its tests will be skipped: {missing}")
            return f"{server.name} cannot be had"
        finally:
            del self._started[server.name]
        took = time.monotonic() - started
        return (
            f"{server.name} is ready after {took:.0f} s ({self._usual[server.name]})"
            if took > _QUICK
            else None
        )

    def _going_on(self) -> str:
        now = time.monotonic()
        started = dict(self._started).items()
        current = [f"{name} for {now - at:.0f} s ({self._usual[name]})" for name, at in started]
        return f"fetching or building {', '.join(current)}"


def main(arguments: Sequence[str]) -> int:
    """Install one of the two lists; tests of a server that is missing say so themselves."""
    for line in Fetching(DEPLOY if "deploy" in arguments else TESTS).lines():
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
