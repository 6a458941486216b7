"""Google Pub/Sub's own fake (``pstest``) as a server; it keeps everything in memory."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers import Server, fetch_once, run, tool

__all__ = ["PROJECT", "Pubsub"]

PROJECT = "tests"

_SOURCE = Path(__file__).parent / "pubsub_emulator"


class Pubsub(Server):
    """One emulator. Clients find it by the variables in :attr:`variables`.

    It forgets topics, subscriptions and messages when it ends, drops unread messages after ten
    minutes, numbers messages from m0 again after a restart, and dies of ``Seek``.
    """

    name = "pubsub"

    @classmethod
    def install(cls) -> None:
        _binary()

    @property
    def url(self) -> str:
        return f"pubsub://{PROJECT}"

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of a client."""
        return {"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{self.port}"}

    def command(self) -> Sequence[str]:
        return [str(_binary()), "-port", str(self.port)]

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True


def _binary() -> Path:
    """The emulator, built again whenever its source or its dependencies change."""
    sources = [_SOURCE / name for name in ("main.go", "go.mod", "go.sum")]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    return fetch_once(f"pubsub-{digest}", _build) / "pubsub-emulator"


def _build(target: Path) -> None:
    go = tool("go", "sudo apt-get install golang")
    run([go, "build", "-mod=readonly", "-o", str(target / "pubsub-emulator"), "."], cwd=_SOURCE)
