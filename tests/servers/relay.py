"""A relay between a client and a server whose answers get lost when a test says so."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

__all__ = ["Relay"]


class Relay:
    """Passes bytes between clients and one server of this machine, each connection on two threads.

    Attributes:
        port: where it listens.
        lost: answers that were lost so far.
    """

    def __init__(self, port: int) -> None:
        """Pass on to ``port``."""
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost = 0
        self._left, self._words = 0, b""
        self._open: list[socket.socket] = []

    def lose(self, answers: int, words: bytes) -> None:
        """Lose the next answers to requests that hold these words: the server has done what was asked."""
        self._left, self._words = answers, words

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in [self._listener, *self._open]:
            _cut(one)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self._open += [client, server]
                loses = threading.Event()
                for pair in ((client, server, None), (server, client, loses)):
                    threading.Thread(target=self._pass, args=(*pair, loses), daemon=True).start()

    def _pass(
        self,
        here: socket.socket,
        there: socket.socket,
        answers: threading.Event | None,
        loses: threading.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := here.recv(65536):
                if answers is None and self._left and self._words in data:
                    self._left -= 1
                    loses.set()
                if answers is not None and answers.is_set():
                    self.lost += 1
                    break
                there.sendall(data)
        _cut(here)
        _cut(there)


def _cut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
