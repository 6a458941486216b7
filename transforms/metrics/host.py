"""What a process depends on without noticing until it is too late: space on disks and certificates."""

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
_FREE = "persistor_disk_free_bytes", "Free space where a local lake or index lies.", "directory"
_SIZE = (
    "persistor_disk_size_bytes",
    "Size of the file system where a local lake or index lies.",
    "directory",
)
_EXPIRES = (
    "persistor_certificate_expiry_timestamp_seconds",
    "When the first certificate of a configured file expires, in seconds since 1970.",
    "file",
)


def watch(
    command: str,
    urls: Iterable[str | None],
    configs: Iterable[Mapping[str, str]],
    registry: CollectorRegistry = REGISTRY,
) -> None:
    """Tell Prometheus the process's command, and of the disks and certificates that its settings name.

    Each is looked at when it is asked for, so that a renewed certificate is seen. Once per registry.

    Args:
        command: of this process, such as ``persist``.
        urls: of brokers, lakes and indexes; None is nothing.
        configs: settings of their clients.
        registry: where the gauges are entered.
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
    """Where the local ones of these URLs keep their data."""
    return sorted(set(_directories(urls)))


def space(directory: str) -> tuple[float, float]:
    """Free and all bytes of a directory's file system, of the nearest one that exists."""
    path = Path(directory)
    while not path.exists() and path != path.parent:
        path = path.parent
    usage = shutil.disk_usage(path)
    return float(usage.free), float(usage.total)


def certificates(urls: Iterable[str], configs: Iterable[Mapping[str, str]]) -> list[str]:
    """Files with PEM certificates that URLs and clients' settings name."""
    values = [value for config in configs for value in config.values()]
    values += [value for url in urls for _, value in parse_qsl(urlsplit(url).query)]
    return sorted({value for value in values if Path(value).is_absolute() and _holds_certificates(value)})


def expiry(file: str) -> datetime | None:
    """When the first of a file's certificates expires; None where it cannot be read now."""
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
