"""Google Cloud Storage: fake-gcs-server behind a front that takes uploads of the XML API.

fake-gcs-server has uploads of the JSON API only; obstore uses the XML API's ``PUT``. The front
turns one into the other and passes everything else on.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote

import requests

from tests.servers import Server, fetch_once, free_port, run, tool

__all__ = ["GCS"]

_MODULE = "github.com/fsouza/fake-gcs-server@v1.52.2"
_DIRECTORY = "fake-gcs-server-1.52.2"
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "host", "keep-alive"}


class GCS(Server):
    """Objects in memory, gone with ``kill``; takes any credentials."""

    name: ClassVar[str] = "gcs"

    def __init__(self, data: Path | None = None, port: int | None = None) -> None:
        super().__init__(data, port)
        self._behind = free_port()

    @classmethod
    def install(cls) -> None:
        """Build the program from its module."""
        fetch_once(_DIRECTORY, _build)

    @property
    def url(self) -> str:
        """The endpoint of the front."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> dict[str, str]:
        """What a lake needs to reach it."""
        account = {
            "gcs_base_url": self.url,
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        return {"google_service_account_key": json.dumps(account), "allow_http": "true"}

    def create_bucket(self, name: str) -> str:
        """Create a bucket; returns its URL as a lake."""
        requests.post(f"{self.url}/storage/v1/b", json={"name": name}, timeout=10).raise_for_status()
        return f"gs://{name}"

    def command(self) -> Sequence[str]:
        """This module, which starts the server behind the front."""
        program = fetch_once(_DIRECTORY, _build) / "fake-gcs-server"
        return [sys.executable, "-m", "tests.servers.gcs", str(program), str(self.port), str(self._behind)]

    def environment(self) -> Mapping[str, str]:
        """Where this module is found."""
        return {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}

    def answers(self) -> bool:
        """Whether it lists its buckets."""
        return requests.get(f"{self.url}/storage/v1/b?project=p", timeout=2).status_code == 200


class _Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behind: ClassVar[int]

    def do_GET(self) -> None:
        self._pass_on()

    do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815 - the names that http.server calls

    def do_PUT(self) -> None:
        if "upload_id=" in self.path:  # a part of a resumable upload, which the server knows
            self._pass_on()
            return
        bucket, _, name = unquote(self.path.lstrip("/").partition("?")[0]).partition("/")
        query = f"uploadType=multipart&name={quote(name, safe='')}"
        generation = self.headers.get("x-goog-if-generation-match")
        if generation is not None:
            query += f"&ifGenerationMatch={generation}"
        kind, content = _multipart(name, self._content())
        headers = {"Content-Type": kind, "Host": self.headers["host"]}
        path = f"/upload/storage/v1/b/{quote(bucket)}/o?{query}"
        status, headers, body = self._ask("POST", path, headers, content)
        if status == 200:
            made = json.loads(body)
            headers = {"ETag": f'"{made["etag"]}"', "x-goog-generation": str(made["generation"])}
            body = b""
        self._answer(status, headers, body)

    def _pass_on(self) -> None:
        # The server knows its buckets by the name of the host that it was told.
        headers = {n: v for n, v in self.headers.items() if n.lower() not in _HOP_BY_HOP}
        headers["Host"] = self.headers["host"]
        self._answer(*self._ask(self.command, self.path, headers, self._content()))

    def _content(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _ask(
        self, method: str, path: str, headers: dict[str, str], content: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=60)
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        kept = {n: v for n, v in answer.getheaders() if n.lower() not in _HOP_BY_HOP}
        if method == "HEAD":
            kept["Content-Length"] = answer.getheader("content-length") or "0"
        return answer.status, kept, body

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged per request."""


def _multipart(name: str, content: bytes) -> tuple[str, bytes]:
    """The body of an upload of the JSON API; only this kind of upload knows conditions."""
    boundary = uuid.uuid4().hex
    resource = json.dumps({"name": name})
    first = f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{resource}\r\n"
    second = f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
    body = b"".join([first.encode(), second.encode(), content, f"\r\n--{boundary}--\r\n".encode()])
    return f"multipart/related; boundary={boundary}", body


def _build(target: Path) -> None:
    go = tool("go", "see https://go.dev/doc/install")
    run([go, "install", _MODULE], cwd=target, env={**os.environ, "GOBIN": str(target), "CGO_ENABLED": "0"})


def _main(program: str, port: str, behind: str) -> None:
    place = ["-scheme", "http", "-host", "127.0.0.1", "-port", behind, "-backend", "memory"]
    named = ["-public-host", f"127.0.0.1:{port}", "-external-url", f"http://127.0.0.1:{port}"]
    subprocess.Popen([program, *place, *named])
    _Front.behind = int(behind)
    ThreadingHTTPServer(("127.0.0.1", int(port)), _Front).serve_forever()


if __name__ == "__main__":
    _main(*sys.argv[1:])
