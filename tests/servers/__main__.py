"""``python -m tests.servers``: fetches and builds every server, so that no test waits for one."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from tests.servers import Unavailable
from tests.servers.azurite import Azurite
from tests.servers.chromium import Chromium
from tests.servers.flink import Flink
from tests.servers.gcs import GCS
from tests.servers.image import Debian
from tests.servers.kafka import Kafka
from tests.servers.minio import MinIO
from tests.servers.mongodb import MongoDB
from tests.servers.moto import Moto
from tests.servers.nats import Nats
from tests.servers.programs import BOOT, COMPOSE, HELM, PROVIDER, TERRAFORM
from tests.servers.pubsub import Pubsub


class _Installed(Protocol):
    """A server's class, or a program."""

    @property
    def name(self) -> str: ...

    def install(self) -> Any: ...


# The slowest first: they are built from source, the others are downloads.
_SERVERS: tuple[_Installed, ...] = (
    *(MinIO, PROVIDER, HELM, COMPOSE, BOOT, GCS, Pubsub, Flink, Debian),
    *(Kafka, MongoDB, Azurite, Moto, Nats, Chromium, TERRAFORM),
)


def _install(server: _Installed) -> str:
    started = time.monotonic()
    try:
        server.install()
    except Unavailable as missing:
        return f"{server.name}: missing; {missing}"
    return f"{server.name}: ready after {time.monotonic() - started:.0f} s"


def main() -> int:
    """Install all, two at a time; tests of a server that is missing say so themselves."""
    with ThreadPoolExecutor(2) as threads:
        for line in threads.map(_install, _SERVERS):
            sys.stderr.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
