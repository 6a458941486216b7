"""S3 servers as some are, one that ignores If-None-Match and a slow one: Moto behind a front."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

from tests.servers.moto import Moto

__all__ = ["careless", "slow"]

_NOT_OURS = {"host", "connection", "transfer-encoding", "content-encoding"}


@contextmanager
def careless(moto: Moto) -> Iterator[dict[str, str]]:
    """The settings of a lake on a server that ignores If-None-Match, whose buckets are Moto's."""
    with _front(moto, {"if-none-match"}, 0) as config:
        yield config


@contextmanager
def slow(moto: Moto, seconds: float) -> Iterator[dict[str, str]]:
    """The settings of a lake on a server that takes so long for each object it is given."""
    with _front(moto, set(), seconds) as config:
        yield config


@contextmanager
def _front(moto: Moto, ignored: set[str], seconds: float) -> Iterator[dict[str, str]]:
    class Front(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            left_out = _NOT_OURS | ignored
            kept = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
            if self.command == "PUT":
                time.sleep(seconds)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = moto.config["endpoint"] + self.path
            answer = requests.request(self.command, url, headers=kept, data=body, timeout=30)
            self.send_response(answer.status_code)
            length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
            for name, value in answer.headers.items():
                if name.lower() not in {*_NOT_OURS, "content-length", "server", "date"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815 - as http.server calls them

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Front) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {**moto.config, "endpoint": f"http://127.0.0.1:{server.server_port}"}
        server.shutdown()
