"""Assembles the HTTP service from its configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from apiflask import APIFlask

__all__ = ["create_app"]


def create_app(
    *,
    index: str,
    lakes: Sequence[str],
    lake_config: Mapping[str, str],
    destinations: Mapping[str, tuple[str, Mapping[str, str]]],
    inline_limit: int = 1000,
    jobs_directory: Path | None = None,
) -> APIFlask:
    """The WSGI application; opens the index and the lakes, and takes up the jobs it finds.

    Args:
        index: URL of the index store, such as ``sqlite:///path`` or ``mongodb://host/db``.
        lakes: URLs of the lakes that the index may point into.
        lake_config: settings of their stores' client.
        destinations: what a request may send to: name -> (broker's URL without a topic,
            settings of its client), such as ``{"main": ("kafka://host:9092", {})}``.
            A request gives a name and a topic, never a URL or a setting.
        inline_limit: selections of at most so many messages are resubmitted by the service
            itself, larger ones by the Beam job in a process of its own.
        jobs_directory: where those processes find their settings and leave their output
            (created with mode 0700); a directory of this user below the system's temporary one
            unless given.

    Raises:
        ConfigurationError: all problems of the configuration at once.
    """
    raise NotImplementedError
