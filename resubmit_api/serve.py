"""Runs the service in a production WSGI server until SIGTERM or SIGINT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["serve"]


def serve(
    *,
    index: str,
    lakes: Sequence[str],
    lake_config: Mapping[str, str],
    destinations: Mapping[str, tuple[str, Mapping[str, str]]],
    host: str = "127.0.0.1",
    port: int = 8080,
    threads: int = 8,
    allow_remote: bool = False,
    inline_limit: int = 1000,
    jobs_directory: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is being answered and return.

    Args:
        host: address to listen on. The service has no authentication, so anything but a
            loopback address is refused unless ``allow_remote`` is given.
        port: port to listen on; 0 picks a free one. ``Listening on http://…`` is printed.
        threads: requests that are worked on at the same time.
        allow_remote: listen on ``host`` although whoever reaches it may read and send every message.

    The other arguments are those of :func:`resubmit_api.app.create_app`.

    Raises:
        ConfigurationError: all problems of the configuration at once.
    """
    raise NotImplementedError
