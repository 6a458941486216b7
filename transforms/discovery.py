"""The modules of a package, found by name: a new one is a new file, entered nowhere."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import overload

from transforms.errors import ConfigurationError

__all__ = ["Found", "load", "names"]


def names(package: str) -> list[str]:
    """The public modules and packages right below a package, sorted. Nothing is imported for it."""
    path: Iterable[str]
    if package in sys.modules:
        path = sys.modules[package].__path__
    else:
        spec = importlib.util.find_spec(package)
        path = spec.submodule_search_locations or () if spec else ()
    return sorted(found.name for found in pkgutil.iter_modules(path) if not found.name.startswith("_"))


@dataclass(frozen=True)
class Found(Sequence[str]):
    """The names of a package's modules as a sequence, looked up whenever it is read."""

    package: str

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return names(self.package)[index]

    def __len__(self) -> int:
        return len(names(self.package))


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
