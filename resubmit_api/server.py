"""The HTTP server: waitress, so bounded that whoever holds it up cannot keep others out."""

from __future__ import annotations

import time
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher
from waitress.utilities import Error

from resubmit_api.errors import PROBLEM_TYPE, RETRY_AFTER, problem_body

__all__ = ["Server", "Threads"]

_MOST_CONNECTIONS = 500
"""Each browser keeps up to six connections open."""
_MOST_WAITING = 100
"""Requests that wait for a thread; fewer than connections, so that one can be closed for a new one."""
_MOST_HEADERS = 64 << 10
_IDLE = 60
_HEADERS_WITHIN = 10.0
"""Seconds from the first byte of a request to the end of its headers."""
_BODY_WITHIN = 60.0
_CHECKED_EVERY = 1
_ACTING = ("/v1/resubmissions", "/v1/plans", "/jobs/", "/resubmit", "/dead-letters/send-back")
"""Where messages are sent and jobs are changed; searches that take long must not delay that."""
_READ_ONLY = frozenset({"GET", "HEAD", "OPTIONS"})


class Server(TcpWSGIServer):  # type: ignore[misc]
    """Listens at once; ``run()`` serves until ``close()``.

    A request must be complete in time. Where all connections are used, the one that has been without a
    request for longest is closed for a new one.
    """

    def __init__(self, app: Any, listener: Any, threads: Threads, **adjustments: Any) -> None:
        given = Adjustments(
            ident=None,
            connection_limit=_MOST_CONNECTIONS,
            asyncore_use_poll=True,
            max_request_header_size=_MOST_HEADERS,
            channel_timeout=_IDLE,
            cleanup_interval=_CHECKED_EVERY,
            # With it a client that leaves is noticed while its request is served.
            channel_request_lookahead=1,
            **adjustments,
        )
        place = (listener.family, listener.type, listener.proto, listener.getsockname())
        self.channel_class = _Channel
        super().__init__(
            app, {}, True, listener, dispatcher=threads, adj=given, sockinfo=place, bind_socket=False
        )

    def maintenance(self, now: float) -> None:
        """Close the connections that have been idle, or sending a request, for too long."""
        super().maintenance(now)
        for channel in self.active_channels.values():
            channel.will_close = channel.will_close or channel.is_late(now)

    def handle_accept(self) -> None:
        """Accept a connection, and make room for the next one."""
        super().handle_accept()
        # The limit is of all that is polled, which includes the listener and the trigger.
        if len(self._map) >= self.adj.connection_limit - 1:
            idle = [channel for channel in self.active_channels.values() if not channel.requests]
            # Those that do not read their response come last.
            if first := min(idle, key=lambda one: (one.total_outbufs_len > 0, one.since), default=None):
                first.handle_close()


class Threads(ThreadedTaskDispatcher):  # type: ignore[misc]
    """The threads that answer: health, metrics, actions and all other requests each have their own."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.set_thread_count(threads)
        self._alive, self._process, self._acting = _pool(1), _pool(1), _pool(threads)

    @property
    def waiting(self) -> int:
        """How many requests wait for a thread."""
        return len(self.queue) + len(self._acting.queue)

    def add_task(self, task: HTTPChannel) -> None:
        """Have a request answered; 503 if too many wait already."""
        asked = task.requests[0]
        pool = self._pool_of(asked)
        waits = len(self.queue if pool is None else pool.queue) >= _MOST_WAITING
        if waits and not asked.error:
            asked.error = _BusyError("")
        if asked.error:
            self._alive.add_task(task)
        elif pool is None:
            super().add_task(task)
        else:
            pool.add_task(task)

    def _pool_of(self, asked: Any) -> ThreadedTaskDispatcher | None:
        if asked.path == "/healthz":
            return self._alive
        if asked.path in {"/metrics", "/readyz"}:
            return self._process
        acts = asked.command not in _READ_ONLY and str(asked.path).startswith(_ACTING)
        return self._acting if acts else None

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """End all threads, as waitress asks."""
        for pool in (self._alive, self._process, self._acting):
            pool.shutdown(cancel_pending, timeout)
        return bool(super().shutdown(cancel_pending, timeout))


def _pool(threads: int) -> ThreadedTaskDispatcher:
    made = ThreadedTaskDispatcher()
    made.set_thread_count(threads)
    return made


class _BusyError(Error):  # type: ignore[misc]
    code, reason = 503, "Service Unavailable"


class _ProblemTask(ErrorTask):  # type: ignore[misc]
    """Turns errors of the server itself, before the application, into problem documents too."""

    def execute(self) -> None:
        error = self.request.error
        busy = isinstance(error, _BusyError)
        detail = "Too many requests wait." if busy else "The request cannot be read or is too large."
        body = problem_body(error.code, error.reason, detail)
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", PROBLEM_TYPE), ("X-Content-Type-Options", "nosniff")]
        self.response_headers += [("Retry-After", str(RETRY_AFTER))] if busy else []
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection.

    Attributes:
        since: when its latest request began, or when it was opened.
    """

    error_task_class = _ProblemTask

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.since: float = self.creation_time

    def received(self, data: bytes) -> bool:
        """Take what the client has sent."""
        if self.request is None:
            self.since = time.time()
        return bool(super().received(data))

    def is_late(self, now: float) -> bool:
        """Whether its request should be complete by now."""
        if self.requests or self.request is None:
            return False
        within = _BODY_WITHIN if self.request.headers_finished else _HEADERS_WITHIN
        return now - self.since > within
