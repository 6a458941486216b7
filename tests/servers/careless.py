"""An S3 server that ignores If-None-Match, as some do: Moto behind a front that does not hand it on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

from tests.servers.moto import Moto

__all__ = ["careless"]

_NOT_OURS = {"host", "if-none-match", "connection", "transfer-encoding", "content-encoding"}


@contextmanager
def careless(moto: Moto) -> Iterator[dict[str, str]]:
    """The settings of a lake on that server, whose buckets are Moto's."""

    class Front(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            kept = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_OURS}
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
