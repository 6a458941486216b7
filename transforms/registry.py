"""Finds the module that implements a URL scheme or a name."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from transforms import discovery
from transforms.brokers import BrokerModule
from transforms.errors import ConfigurationError
from transforms.formats import FormatModule
from transforms.indexes import IndexModule

__all__ = ["broker", "format_of", "index", "index_file", "names"]


def broker(url: str) -> BrokerModule:
    """The module of ``transforms.brokers`` for a URL.

    Raises:
        ConfigurationError: it is no URL, or of none of the brokers; the valid ones are listed.
    """
    return cast("BrokerModule", discovery.load("transforms.brokers", _scheme(url, "brokers")))


def index(url: str) -> IndexModule:
    """The module of ``transforms.indexes`` for a URL; raises as :func:`broker`."""
    return cast("IndexModule", discovery.load("transforms.indexes", _scheme(url, "indexes")))


def format_of(name: str) -> FormatModule:
    """The module of ``transforms.formats`` for a format's name, or for a file's name by its extension.

    Raises:
        ConfigurationError: there is no such format; the valid ones are listed.
    """
    return cast("FormatModule", discovery.load("transforms.formats", name.rpartition(".")[2]))


def index_file(url: str) -> Path | None:
    """Where an index lies on this host; None where a server holds it.

    References to secrets stay as they are written. Raises as :func:`broker`.
    """
    return Path("/" + url.partition("://")[2].lstrip("/")) if index(url).ONE_HOST else None


def names(kind: str) -> list[str]:
    """The backends there are: every module of the package ``transforms.<kind>``."""
    return discovery.names(f"transforms.{kind}")


def _scheme(url: str, kind: str) -> str:
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ConfigurationError(
            f"{url!r} is not a URL; write SCHEME://… with one of the {kind} {', '.join(names(kind))}."
        )
    return scheme
