"""Gauges of disk space and of expiring certificates, and of the process itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from cryptography import x509
from prometheus_client import REGISTRY, CollectorRegistry, Gauge

__all__ = ["certificates", "directories", "expiry", "space", "watch"]

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_LARGEST = 1 << 20


_INFO = "persistor_info", "Always 1: the command and version of a process.", "command", "version"
_FREE = "persistor_disk_free_bytes", "Free space of the file system of a local lake or index.", "directory"
_SIZE = (
    "persistor_disk_size_bytes",
    "Size of the file system of a local lake or index.",
    "directory",
)
_EXPIRES = (
    "persistor_certificate_expiry_timestamp_seconds",
    "Earliest expiry of the certificates in a configured file, in seconds since 1970.",
    "file",
)


def watch(
    command: str,
    urls: Iterable[str | None],
    configs: Iterable[Mapping[str, str]],
    registry: CollectorRegistry = REGISTRY,
) -> None:
    """Add gauges of the process's command, and of the disks and certificates in its settings.

    They are read at each scrape, so that a renewed certificate is seen. Call it once per registry.

    Args:
        command: this process's command, such as ``persist``.
        urls: URLs of brokers, lakes and indexes; None is ignored.
        configs: settings of their clients.
        registry: receives the gauges.
    """
    info = _gauge(registry, *_INFO)
    info.labels(command, version("persistor")).set(1)
    free = _gauge(registry, *_FREE)
    size = _gauge(registry, *_SIZE)
    expires = _gauge(registry, *_EXPIRES)
    known = [url for url in urls if url]
    for directory in directories(known):
        free.labels(directory).set_function(partial(_free, directory))
        size.labels(directory).set_function(partial(_size, directory))
    for file in certificates(known, configs):
        expires.labels(file).set_function(partial(_timestamp, file))


def directories(urls: Iterable[str]) -> list[str]:
    """The data directories of the local ones of these URLs."""
    return sorted(set(_directories(urls)))


def space(directory: str) -> tuple[float, float]:
    """Free and total bytes of the file system of a directory, or of its nearest existing parent."""
    path = Path(directory)
    while not path.exists() and path != path.parent:
        path = path.parent
    usage = shutil.disk_usage(path)
    return float(usage.free), float(usage.total)


def certificates(urls: Iterable[str], configs: Iterable[Mapping[str, str]]) -> list[str]:
    """Files with PEM certificates named in URLs and client settings."""
    values = [value for config in configs for value in config.values()]
    values += [value for url in urls for _, value in parse_qsl(urlsplit(url).query)]
    return sorted({value for value in values if Path(value).is_absolute() and _holds_certificates(value)})


def expiry(file: str) -> datetime | None:
    """The earliest expiry of a file's certificates; None if it cannot be read."""
    try:
        found = x509.load_pem_x509_certificates(Path(file).read_bytes())
    except (OSError, ValueError):
        return None
    return min((certificate.not_valid_after_utc for certificate in found), default=None)


def _gauge(registry: CollectorRegistry, name: str, meaning: str, *labels: str) -> Gauge:
    return Gauge(name, meaning, labels, registry=registry)


def _directories(urls: Iterable[str]) -> Iterator[str]:
    for parts in map(urlsplit, urls):
        path = Path("/" + parts.path.lstrip("/"))
        # What names no server lies here: a lake in a directory, an index in a file.
        if parts.path and not parts.netloc:
            yield str(path if parts.scheme == "file" else path.parent)


def _holds_certificates(file: str) -> bool:
    try:
        with Path(file).open("rb") as opened:
            return _BEGIN in opened.read(_LARGEST)
    except OSError:
        return False


def _free(directory: str) -> float:
    return space(directory)[0]


def _size(directory: str) -> float:
    return space(directory)[1]


def _timestamp(file: str) -> float:
    time = expiry(file)
    return float("nan") if time is None else time.timestamp()
