"""From a URL scheme or a name to the one module that implements it."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from types import ModuleType

from transforms.errors import ConfigurationError

__all__ = ["broker", "format_of", "index", "names"]


def broker(url: str) -> ModuleType:
    """The module of ``transforms.brokers`` for a URL; see that package for its contract."""
    return _module("brokers", _scheme(url, "brokers"))


def index(url: str) -> ModuleType:
    """The module of ``transforms.indexes`` for a URL; see that package for its contract."""
    return _module("indexes", _scheme(url, "indexes"))


def format_of(name: str) -> ModuleType:
    """The module of ``transforms.formats`` for a format's name, or for a file's name by its extension."""
    return _module("formats", name.rpartition(".")[2])


def names(kind: str) -> list[str]:
    """The backends there are: every module of the package ``transforms.<kind>``."""
    package = importlib.import_module(f"transforms.{kind}")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def _scheme(url: str, kind: str) -> str:
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ConfigurationError(
            f"{url!r} is not a URL; write SCHEME://… with one of the {kind} {', '.join(names(kind))}."
        )
    return scheme


@functools.cache
def _module(kind: str, name: str) -> ModuleType:
    if name not in names(kind):
        raise ConfigurationError(f"{name!r} is not one of the {kind}; known are {', '.join(names(kind))}.")
    try:
        return importlib.import_module(f"transforms.{kind}.{name}")
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "transforms":
            raise
        raise ConfigurationError(
            f"{name} needs the package {error.name}: pip install 'persistor[{name}]'."
        ) from error
