"""The lake: one object store location, written only by put-if-absent."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import obstore
import pyarrow as pa
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import GCSStore, LocalStore, ObjectStore, S3Store, from_url

from transforms import disk
from transforms.errors import ConfigurationError, PermanentError, PersistorError, TransientError
from transforms.secrets import resolve, resolve_all

__all__ = ["INTERNAL", "SCHEMES", "AccessDeniedError", "Lake", "LakeFile", "ObjectMissingError", "find_lake"]

INTERNAL = "_persistor/"
"""Prefix of all objects in a lake that are not files of messages."""

SCHEMES = ("file", "s3", "gs", "az")
# Our own retry loop waits for the store; the client's loop would only hide its absence for minutes.
_RETRY = {"max_retries": 1, "retry_timeout": timedelta(seconds=10)}
_TIMEOUTS = {"connect_timeout": "5s", "timeout": "120s"}
# Settings of the HTTP client: obstore takes them separately, and panics on them among the store's settings.
_CLIENT_OPTIONS = {
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "read_timeout",
    "root_certificate",
    "timeout",
}
_STATUS = re.compile(r"status code: (\d+)")
# Of disks, and of S3, whose names end at 1024 bytes.
_TOO_LONG = re.compile("File name too long|KeyTooLong")
_PROVIDERS = "aws_", "azure_", "google_"
_T = TypeVar("_T")


class ObjectMissingError(PermanentError):
    """The lake has no object at this path."""


class AccessDeniedError(TransientError):
    """The store refuses these credentials for now; they may be renewed while a job runs."""


class Lake:
    """An object store below one URL. Thread-safe; created on each worker from its URL.

    Paths are relative to the URL. Locations are whole URLs, as stored in the index.
    """

    def __init__(self, url: str, config: Mapping[str, str] | None = None) -> None:
        """Open ``file:///dir``, ``s3://bucket/prefix``, ``gs://…`` or ``az://container/prefix``.

        Args:
            config: settings of the store and its HTTP client (obstore's names, such as
                ``endpoint``); values may be secret references. What is not given comes from the
                environment in the store's usual variables (``AWS_…``, ``GOOGLE_…``, ``AZURE_…``).
                An endpoint ``http://…``, wherever it stands, is used without TLS.

        Raises:
            ConfigurationError: unknown scheme or setting.
        """
        self.url = url.rstrip("/")
        self._config = dict(config or {})
        self._store = _open_store(self.url, self._config)

    def __reduce__(self) -> tuple[type[Lake], tuple[str, dict[str, str]]]:
        return type(self), (self.url, self._config)

    def put_new(self, path: str, data: bytes | memoryview | pa.Buffer) -> bool:
        """Write an object if it does not exist, completely or not at all; it survives a power failure.

        Returns:
            False if an object exists at this path; it stays unchanged.

        Raises:
            TransientError: the store does not answer or has no such bucket. Whether the object was
                written is unknown; repeat the call to find out.
            PermanentError: no object can have this path.
        """
        try:
            # obstore accepts neither an Arrow buffer nor a view of one, because its bytes are signed.
            plain = memoryview(data).cast("B")
            self._call(lambda: self._create(path, plain))
        except _ExistsError:
            self._sync(path)  # the process that wrote it may not have synced it
            return False
        except ObjectMissingError as error:
            raise TransientError(f"{self.url} does not exist; create its bucket or container") from error
        self._sync(path)
        return True

    def get(self, path: str) -> memoryview:
        """Read a whole object.

        Raises:
            ObjectMissingError: the object does not exist.
            TransientError: the store does not answer.
        """
        return memoryview(self._call(lambda: obstore.get(self._store, path).bytes()))

    def get_ranges(self, path: str, starts: Sequence[int], ends: Sequence[int]) -> list[memoryview]:
        """Read byte ranges ``[start, end)`` of one object; close ranges share a request."""
        buffers = self._call(lambda: obstore.get_ranges(self._store, path, starts=starts, ends=ends))
        return [memoryview(buffer) for buffer in buffers]

    def open(self, path: str) -> LakeFile:
        """Look up an object for ranged reads; raises like :meth:`get`."""
        return LakeFile(self, path, self._call(lambda: obstore.head(self._store, path))["size"])

    def modified(self, path: str) -> datetime:
        """When an object was written, by the store's clock; raises like :meth:`get`."""
        found: datetime = self._call(lambda: obstore.head(self._store, path))["last_modified"]
        return found

    def list(self, prefix: str = "", after: str | None = None) -> Iterator[tuple[str, int]]:
        """All objects below ``prefix`` as (path, size in bytes), in the store's own order.

        Args:
            prefix: whole path components, without a trailing slash.
            after: only paths that sort after this one.
        """
        pages = obstore.list(self._store, prefix or None, offset=after, chunk_size=1000)
        while True:
            page = self._call(lambda: next(pages, None))
            if page is None:
                return
            # Not every Azure or Google store supports a start position.
            yield from ((m["path"], m["size"]) for m in page if after is None or m["path"] > after)

    @property
    def seeks(self) -> bool:
        """Whether a list that begins after a path costs nothing for the names before it, and is in order."""
        return isinstance(self._store, GCSStore | S3Store)

    def folders(self, prefix: str) -> Sequence[str]:
        """Names of the folders directly below ``prefix``."""
        found = self._call(lambda: obstore.list_with_delimiter(self._store, prefix))
        return [path.rpartition("/")[2] for path in found["common_prefixes"]]

    def delete(self, path: str) -> None:
        """Delete an object below ``_persistor/``; a missing one is no error."""
        if not path.startswith(INTERNAL):
            raise PermanentError(f"{path} is a file of messages, which this lake does not delete")
        try:
            self._call(lambda: obstore.delete(self._store, path))
        except ObjectMissingError:
            return

    def location(self, path: str) -> str:
        """The URL of the object in the index."""
        return f"{self.url}/{path}"

    def path(self, location: str) -> str | None:
        """The path of a location in this lake; None if it is outside."""
        prefix = self.url + "/"
        inside = location.startswith(prefix) and ".." not in location.split("/")
        return location[len(prefix) :] if inside else None

    def _create(self, path: str, data: memoryview) -> None:
        """Of a local file obstore gives the name before the disk has the content."""
        root = self._root
        if root is None:
            obstore.put(self._store, path, data, mode="create")
        elif self._is_there(path) or not disk.create(root, path, data):
            raise _ExistsError

    def _is_there(self, path: str) -> bool:
        try:
            obstore.head(self._store, path)  # which knows what names there may be
        except FileNotFoundError:
            return False
        return True

    def _sync(self, path: str) -> None:
        """Sync a file and its directories to disk; object stores do so themselves."""
        if root := self._root:
            disk.sync(root, path)

    @property
    def _root(self) -> Path | None:
        """The directory, None of an object store."""
        if isinstance(self._store, LocalStore):
            return Path(resolve(self.url, "`lake`").removeprefix("file://"))
        return None

    def _call(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except AlreadyExistsError as error:
            raise _ExistsError from error
        except FileNotFoundError as error:
            raise ObjectMissingError(_first_line(error)) from error
        except (
            PermissionDeniedError,
            UnauthenticatedError,
            PermissionError,
        ) as error:
            raise AccessDeniedError(f"{self.url} denies access: {_first_line(error)}") from error
        except (InvalidPathError, NotSupportedError, ValueError) as error:
            raise PermanentError(_first_line(error)) from error
        except (PreconditionError, BaseError, OSError) as error:
            raise self._by_status(error) from error

    def _by_status(self, error: Exception) -> PersistorError:
        """A refused list has no error class of its own, and neither has a name that is too long."""
        if _TOO_LONG.search(str(error)):
            return PermanentError(f"{self.url} takes no names that long: {_first_line(error)}")
        status = _STATUS.search(str(error))
        # If S3 refuses one of many deletions, its code is inside a successful response.
        if "code: AccessDenied" in str(error) or (status and status[1] in {"401", "403"}):
            return AccessDeniedError(f"{self.url} denies access: {_first_line(error)}")
        if status and status[1] == "404":
            return ObjectMissingError(f"{self.url} does not exist: {_first_line(error)}")
        return TransientError(_first_line(error))


class LakeFile:
    """An object with its size, for formats that read only parts of it."""

    def __init__(self, lake: Lake, path: str, size: int) -> None:
        self.path = path
        self.size = size
        self._lake = lake

    def read(self) -> memoryview:
        """The whole object."""
        return self._lake.get(self.path)

    def ranges(self, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Byte ranges ``[start, end)``, coalesced into few requests."""
        starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
        return self._lake.get_ranges(self.path, starts, ends)


def find_lake(lakes: Sequence[Lake], location: str) -> tuple[Lake, str]:
    """The configured lake that contains a location, and the path in it.

    Raises:
        PermanentError: it is in none of them; locations in the index are not trusted.
    """
    for lake in lakes:
        path = lake.path(location)
        if path is not None:
            return lake, path
    raise PermanentError(
        f"{location} is outside the configured lakes; write it as persist had it, links are not followed"
    )


class _ExistsError(PersistorError):
    pass


def _open_store(url: str, config: dict[str, str]) -> ObjectStore:
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES or "://" not in url:
        raise ConfigurationError(
            f"`lake` {url!r}: write file:///DIR, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX."
        )
    try:
        if scheme == "file":
            return _open_directory(url)
        store, client = _divide(resolve_all(config))
        # Which settings there are depends on the scheme: the store itself refuses unknown ones.
        return from_url(  # type: ignore[call-overload]
            resolve(url, "`lake`"), config=store, retry_config=_RETRY, client_options=client
        )
    except (UnknownConfigurationKeyError, BaseError, OSError, ValueError) as error:
        raise ConfigurationError(f"`lake` {url}: {_first_line(error)}") from error


def _open_directory(url: str) -> LocalStore:
    path = resolve(url, "`lake`").removeprefix("file://")
    try:
        return LocalStore(path, mkdir=True)
    except OSError as error:
        advice = "cannot be created; name a directory that can be written"
        if Path(path).is_file():
            advice = "that is a file; name a directory"
        raise ConfigurationError(f"`lake` {url}: {advice}.") from error


def _divide(config: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    plain = {name: name.lower() for name in config}
    for prefix in _PROVIDERS:
        plain = {name: short.removeprefix(prefix) for name, short in plain.items()}
    client = {plain[name]: value for name, value in config.items() if plain[name] in _CLIENT_OPTIONS}
    store = {name: value for name, value in config.items() if plain[name] not in _CLIENT_OPTIONS}
    no_tls = any(value.startswith("http://") for value in (*store.values(), *_usual_endpoints()))
    return store, {**_TIMEOUTS, **({"allow_http": "true"} if no_tls else {}), **client}


def _usual_endpoints() -> list[str]:
    """Endpoints in the store's usual variables, which obstore finds by itself."""
    return [
        value
        for name, value in os.environ.items()
        if name.lower().startswith(_PROVIDERS) and "ENDPOINT" in name.upper()
    ]


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
