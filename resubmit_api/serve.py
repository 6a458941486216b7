"""Runs the service in a production WSGI server until SIGTERM or SIGINT."""

from __future__ import annotations

import ipaddress
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from apiflask import APIFlask
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask, ThreadedTaskDispatcher

from resubmit_api.app import MAX_BODY, close_app, create_app
from resubmit_api.errors import PROBLEM_TYPE, problem_body
from resubmit_api.settings import ApiSettings
from resubmit_api.views.context import EXTENSION, Parts
from transforms.errors import ConfigurationError

__all__ = ["make_server", "serve"]

_MOST_HEADERS = 64 << 10
_MOST_CONNECTIONS = 500
_IDLE = 60
_OF_THE_PROCESS = ("/healthz", "/metrics")
_FORWARDED = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"}
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def serve(settings: ApiSettings) -> None:
    """Serve until SIGTERM or SIGINT, then finish open requests and return.

    Call it in the main thread. ``Listening on http://…`` is printed once requests are accepted.

    Args:
        settings: of the command. Without ``tokens`` only a loopback address is accepted, and only
            requests to a loopback name are answered. No web page can then reach the service through a
            name of its own. Port 0 picks a free one.

    Raises:
        ConfigurationError: all problems of the settings at once.
    """
    host, port, closed = settings.host, settings.port, settings.tokens is not None
    if not closed and not _is_loopback(host):
        raise ConfigurationError(
            f"`host: {host}`: without `tokens` everybody who reaches the API may read and send every "
            "message, so it must listen on 127.0.0.1. Make a token with persistor token."
        )
    app = create_app(settings, trusted_hosts=None if closed else _LOOPBACK_NAMES)
    try:
        server = make_server(app, host=host, port=port, trusted_proxy=settings.trusted_proxy)
        parts: Parts = app.extensions[EXTENSION]
        notice = "" if closed else " (no tokens: everybody on this machine may read and send)"
        _run(server, parts.jobs.leave, notice)
    finally:
        close_app(app)


def make_server(
    app: APIFlask, *, host: str, port: int, threads: int = 8, trusted_proxy: str | None = None
) -> Any:
    """A waitress server that already listens; ``run()`` serves until ``close()``.

    Raises:
        ConfigurationError: it cannot listen on the address.
    """
    dispatcher = _Dispatcher(threads)
    parts: Parts = app.extensions[EXTENSION]
    parts.metrics.waiting(lambda: len(dispatcher.queue))
    try:
        [address, *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        server = create_server(
            app,
            sockets=[_listen(address)],
            _dispatcher=dispatcher,
            ident=None,
            # Each browser keeps up to six connections open.
            connection_limit=_MOST_CONNECTIONS,
            asyncore_use_poll=True,
            # Slightly more than the application accepts, so that the application reports the error.
            max_request_body_size=MAX_BODY + (1 << 20),
            max_request_header_size=_MOST_HEADERS,
            channel_timeout=_IDLE,
            trusted_proxy=trusted_proxy,
            trusted_proxy_headers=_FORWARDED if trusted_proxy else set(),
        )
    except OSError as error:
        raise ConfigurationError(
            f"`host: {host}` `port: {port}`: {error.strerror}; choose another."
        ) from error
    server.channel_class = _Channel
    return server


class _Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
    """Answers health requests in its own thread, because all others may wait for unreachable servers."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.set_thread_count(threads)
        self._alive = ThreadedTaskDispatcher()
        self._alive.set_thread_count(1)

    def add_task(self, task: HTTPChannel) -> None:
        if task.requests[0].path in _OF_THE_PROCESS:
            self._alive.add_task(task)
        else:
            super().add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        self._alive.shutdown(cancel_pending, timeout)
        return bool(super().shutdown(cancel_pending, timeout))


class _ProblemTask(ErrorTask):  # type: ignore[misc]
    """Turns errors of the server itself, before the application, into problem documents too."""

    def execute(self) -> None:
        error = self.request.error
        body = problem_body(error.code, error.reason, "The request cannot be read or is too large.")
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", PROBLEM_TYPE), ("X-Content-Type-Options", "nosniff")]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    error_task_class = _ProblemTask


def _listen(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, place = address
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(place)
    return listener


def _run(server: Any, leave: Callable[[], None], notice: str) -> None:
    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        leave()  # what ends along with the service must not be started again by it
        sys.exit(0)  # waitress takes this as the wish to stop

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    host, port = server.effective_host, server.effective_port
    shown = f"[{host}]" if ":" in str(host) else host
    sys.stdout.write(f"Listening on http://{shown}:{port}{notice}\n")
    sys.stdout.flush()
    server.run()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
