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

from resubmit_api.app import MAX_BODY, close_app, create_app
from resubmit_api.server import Server, Threads
from resubmit_api.settings import ApiSettings
from resubmit_api.views.context import EXTENSION, Parts
from transforms.errors import ConfigurationError

__all__ = ["make_server", "serve"]

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
) -> Server:
    """A server that already listens; ``run()`` serves until ``close()``.

    Raises:
        ConfigurationError: it cannot listen on the address.
    """
    pool = Threads(threads)
    parts: Parts = app.extensions[EXTENSION]
    parts.metrics.waiting(lambda: pool.waiting)
    try:
        [address, *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return Server(
            app,
            _listen(address),
            pool,
            # Slightly more than the application accepts, so that the application reports the error.
            max_request_body_size=MAX_BODY + (1 << 20),
            trusted_proxy=trusted_proxy,
            trusted_proxy_headers=_FORWARDED if trusted_proxy else set(),
        )
    except OSError as error:
        raise ConfigurationError(
            f"`host: {host}` `port: {port}`: {error.strerror}; choose another."
        ) from error


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
