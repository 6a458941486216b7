"""A bucket of S3 with a million objects at once, which counts what it is asked."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

__all__ = ["LongLake", "long_lake"]

_PAGE = 1000
_ENTRY = "<Contents><Key>{}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"


class LongLake:
    """What is in the bucket.

    Attributes:
        names: of its objects, in order.
        content: of those whose content matters.
        asked: requests by method, ``LIST`` for lists.
        config: settings of a lake there.
    """

    url = "s3://long"

    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted(names)
        self.content: dict[str, bytes] = {}
        self.asked = Counter[str]()
        self.config: dict[str, str] = {}
        self.lock = threading.Lock()

    def put(self, name: str, content: bytes) -> bool:
        """Whether it was not there."""
        with self.lock:
            if name in self.content:
                return False
            self.content[name] = content
            insort(self.names, name)
            return True

    def page(self, prefix: str, after: str) -> tuple[list[str], bool]:
        """The first names below a prefix, and whether there are more."""
        at = bisect_right(self.names, max(after, prefix))
        found = [name for name in self.names[at : at + _PAGE] if name.startswith(prefix)]
        more = self.names[at + _PAGE : at + _PAGE + 1]
        return found, len(found) == _PAGE and bool(more) and more[0].startswith(prefix)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128


@contextmanager
def long_lake(names: Iterable[str] = (), delay: float = 0.0) -> Iterator[LongLake]:
    """The bucket, on a server of its own, which answers after ``delay`` seconds."""
    lake = LongLake(names)

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if "list-type" in query:
                lake.asked["LIST"] += 1
                after = query.get("continuation-token") or query.get("start-after") or ""
                self._answer(200, _listed(*lake.page(query.get("prefix", ""), after)))
            else:
                lake.asked["GET"] += 1
                content = lake.content.get(_name(parts.path))
                self._answer(404 if content is None else 200, content or b"")

        def do_PUT(self) -> None:
            lake.asked["PUT"] += 1
            content = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(200 if lake.put(_name(self.path), content) else 412, b"")

        def _answer(self, status: int, body: bytes) -> None:
            time.sleep(delay)
            self.send_response(status)
            for name, value in (
                ("Content-Length", str(len(body))),
                ("ETag", '"1"'),
                ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with _Server(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lake.config = {
            "endpoint": f"http://127.0.0.1:{server.server_port}",
            "region": "us-east-1",
            "access_key_id": "a",
            "secret_access_key": "b",
        }
        yield lake
        server.shutdown()


def _name(path: str) -> str:
    return unquote(urlsplit(path).path).removeprefix("/long/")


def _listed(names: list[str], more: bool) -> bytes:
    token = f"<NextContinuationToken>{escape(names[-1])}</NextContinuationToken>" if more else ""
    entries = "".join(_ENTRY.format(escape(name)) for name in names)
    return (
        f'<?xml version="1.0"?><ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>'
        f"{token}{entries}</ListBucketResult>"
    ).encode()
