"""The modules of a package, found by name: a new one is a new file, entered nowhere."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from types import ModuleType

from transforms.errors import ConfigurationError

__all__ = ["load", "names"]


def names(package: str) -> list[str]:
    """The public modules and packages right below a package, sorted. None of them is imported."""
    path = importlib.import_module(package).__path__
    return sorted(found.name for found in pkgutil.iter_modules(path) if not found.name.startswith("_"))


@functools.cache
def load(package: str, name: str) -> ModuleType:
    """Import one module of a package by name.

    Raises:
        ConfigurationError: there is no such module (the valid names are listed), or the library that
            it needs is not installed (the extra to install is named).
    """
    if name not in names(package):
        kind = package.rpartition(".")[2]
        raise ConfigurationError(f"{name!r} is not one of the {kind}; known are {', '.join(names(package))}.")
    try:
        return importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == package.partition(".")[0]:
            raise
        raise ConfigurationError(
            f"{name} needs the package {error.name}: pip install 'persistor[{name}]'."
        ) from error
