"""Takes messages of our own subscriptions from the wire as plain tuples, before nats-py sees them.

nats-py's parser and its message objects are the cost per message, so ``RawParser`` takes the place of
``Client._ps`` and appends tuples, header bytes untouched, to the list of the subscription. Everything
else goes on to nats-py's own parser.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from nats.aio.client import Client
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

__all__ = ["Raw", "RawClient"]

Raw = tuple[bytes, bytes, bytes, bytes]
"""Subject, reply subject, header block and payload, as received."""


class RawClient(Client):
    """nats-py's client with a list per subscription of our own."""

    def __init__(self, lists: Mapping[bytes, list[Raw]], arrived: threading.Event) -> None:
        super().__init__()
        self._lists = lists
        self._arrived = arrived
        self._ps = _RawParser(self, lists, arrived)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        # The usual parser sees our messages if they follow one of its own.
        sink = self._lists.get(str(sid).encode())
        if sink is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            sink.append((subject, reply, headers or b"", data))
            self._arrived.set()


class _RawParser(Parser):
    """nats-py's parser, but messages of ``lists`` go there, by subscription id."""

    def __init__(self, client: Client, lists: Mapping[bytes, list[Raw]], arrived: threading.Event) -> None:
        super().__init__(client)
        self._lists = lists
        self._arrived = arrived
        self._wanted = 0

    def reset(self) -> None:
        super().reset()
        self._wanted = 0

    async def parse(self, data: bytes = b"") -> None:
        # Half a large message is not parsed again until the other half arrived.
        if self.state == AWAITING_CONTROL_LINE:
            self.buf.extend(data)
            if len(self.buf) < self._wanted:
                return
            del self.buf[: self._take(bytes(self.buf))]
            data = b""
            if not self.buf or self._wanted:
                return
        await super().parse(data)

    def _take(self, data: bytes) -> int:
        """Move whole messages of ours to their lists; returns how many bytes that used up."""
        at, found, self._wanted = 0, False, 0
        while data.startswith((b"HMSG ", b"MSG "), at):
            line_end = data.find(b"\r\n", at)
            words = data[at:line_end].split(b" ") if line_end > 0 else []
            sink = self._lists.get(words[2]) if words else None
            if sink is None:
                break
            start = line_end + 2
            end = start + int(words[-1])
            if len(data) < end + 2:
                self._wanted = end + 2 - at
                break
            header = start + int(words[-2]) if words[0] == b"HMSG" else start
            reply = words[3] if len(words) == (6 if words[0] == b"HMSG" else 5) else b""
            sink.append((words[1], reply, data[start:header], data[header:end]))
            at, found = end + 2, True
        if found:
            self._arrived.set()
        return at
