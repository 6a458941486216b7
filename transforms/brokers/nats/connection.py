"""One NATS connection: nats-py on an event loop of its own thread, raw messages for our own use.

nats-py makes the connection (TLS, credentials, pings); its hooks that are used and are not public are
``Client._ps``, ``_process_msg``, ``_sid``, ``_send_command``, ``_flush_pending`` and ``_server_info``.

A lost connection is never repaired implicitly: its user finds it closed, opens it again and knows that
deliveries and confirmations in flight are lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from nats import errors
from nats.aio.client import Client
from nats.protocol import command

from transforms import secrets
from transforms.brokers.nats.wire import Raw, RawClient
from transforms.errors import ConfigurationError, PersistorError, TransientError

__all__ = ["SETTINGS", "Address", "ApiError", "Connection", "parse_url"]

SETTINGS = (
    "user",
    "password",
    "token",
    "credentials",
    "nkey_seed",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "domain",
)
"""``credentials`` and ``nkey_seed`` are files; ``tls_*`` are PEM files; ``domain`` is JetStream's."""

# A reference may hold what else ends a part of the URL: ${file:/run/secrets/nats}.
_URL = re.compile(r"nats://(?:((?:\$\{[^}]*\}|[^/@])*)@)?((?:\$\{[^}]*\}|[^/@])*)/?(.*)")
_LOGIN = re.compile(r"((?:\$\{[^}]*\}|[^:])*)(?::(.*))?")
_SECONDS = 5.0
_STALLED = 30.0
_PING = 20
_T = TypeVar("_T")


class ApiError(PersistorError):
    """JetStream refused a request.

    Attributes:
        code: as in HTTP.
        number: JetStream's own number of the error.
    """

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.code = int(error.get("code", 0))
        self.number = int(error.get("err_code", 0))
        super().__init__(str(error.get("description", "unknown error")))


@dataclass(frozen=True)
class Address:
    """The parts of a URL; ``login`` are settings with unresolved secret references."""

    servers: tuple[str, ...]
    subjects: tuple[str, ...]
    login: Mapping[str, str]


def parse_url(url: str) -> Address:
    """Parse ``nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT][,…]/SUBJECT[,…]``.

    Raises:
        ConfigurationError: lists all problems.
    """
    parts = _URL.fullmatch(url)
    login, hosts, path = parts.groups("") if parts else ("", "", "")
    servers = [f"nats://{host}" for host in secrets.resolve(hosts, "nats://…").split(",") if host]
    subjects = [subject for subject in secrets.resolve(path, "nats://…").split(",") if subject]
    problems = [
        f"The server {_shown(server)!r} is not HOST:PORT." for server in servers if not _has_host(server)
    ]
    if not servers or not subjects:
        problems.append("A NATS URL is nats://HOST:4222/SUBJECT; server or subject is missing.")
    problems += [
        f"{s!r} is not a NATS subject: it has a blank or an empty part." for s in subjects if not _fits(s)
    ]
    if problems:
        raise ConfigurationError(problems)
    return Address(tuple(servers), tuple(dict.fromkeys(subjects)), _login(login))


def _login(login: str) -> dict[str, str]:
    if not login:
        return {}
    user, password = _LOGIN.fullmatch(login).groups()  # type: ignore[union-attr]  # it matches anything
    if password is None:
        return {"token": unquote(user)}
    return {"user": unquote(user), "password": unquote(password)}


def _has_host(server: str) -> bool:
    try:
        return bool(urlsplit(server).hostname and (urlsplit(server).port or 4222))
    except ValueError:
        return False


def _shown(server: str) -> str:
    return server.removeprefix("nats://")


def _fits(subject: str) -> bool:
    parts = subject.split(".")
    return all(parts) and not any(c.isspace() for c in subject) and ">" not in parts[:-1]


class Connection:
    """A connection that is opened on first use and again after a loss.

    Attributes:
        arrived: set whenever a message was put in a list of :meth:`listen`.
        generation: counts how often it was opened; subscriptions belong to one generation.
    """

    def __init__(self, address: Address, config: Mapping[str, str]) -> None:
        unknown = sorted(set(config) - set(SETTINGS))
        if unknown:
            raise ConfigurationError(
                f"NATS has no settings {', '.join(unknown)}; known are {', '.join(SETTINGS)}."
            )
        self._servers = list(address.servers)
        self._config = {**address.login, **config}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: Client | None = None
        self._lists: dict[bytes, list[Raw]] = {}
        self._refusal = ""
        self.arrived = threading.Event()
        self.generation = 0

    @property
    def alive(self) -> bool:
        """Whether the messages and subscriptions of this generation are still valid."""
        return self._client is not None and self._client.is_connected

    def open(self) -> Client:
        """Connect unless connected. Raises ``ConfigurationError`` if credentials are refused."""
        if self._client is None or not self._client.is_connected:
            self._drop()
            self._client = self._run(self._connect())
            self.generation += 1
        return self._client

    def info(self) -> Mapping[str, Any]:
        """The server's own description from the time of connecting."""
        return dict(self.open()._server_info)  # noqa: SLF001 - no public name for it

    def api(self, operation: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request to JetStream's API, for example ``STREAM.INFO.ORDERS``.

        Raises:
            ApiError: JetStream refused it.
            TransientError: no answer.
            ConfigurationError: JetStream is off, or these credentials may not ask.
        """
        data = b"" if body is None else json.dumps(body).encode()
        answer: dict[str, Any] = json.loads(self.request(self.api_subject(operation), data))
        if "error" in answer:
            raise ApiError(answer["error"])
        return answer

    def api_subject(self, operation: str) -> str:
        """The subject of an operation of JetStream's API."""
        domain = self._config.get("domain")
        return f"$JS.{domain}.API.{operation}" if domain else f"$JS.API.{operation}"

    def publish(self, subject: str, reply: str, data: bytes) -> None:
        """Send one message without headers; see :meth:`send`."""
        self.send(command.pub_cmd(subject, reply, data))

    def request(self, subject: str, data: bytes = b"") -> bytes:
        """Send and wait for the single answer."""
        client = self.open()
        self._refusal = ""
        request = asyncio.wait_for(client.request(subject, data, timeout=_SECONDS), _STALLED)
        try:
            return self._run(request).data
        except errors.NoRespondersError as error:
            if not client._server_info.get("jetstream", True):  # noqa: SLF001 - no public name for it
                raise ConfigurationError(
                    f"JetStream is off on the NATS server {_shown(self._servers[0])}; start it with -js."
                ) from error
            raise TransientError(f"no service answers on {subject} at NATS") from error
        except (errors.Error, asyncio.TimeoutError) as error:
            self.check()
            raise TransientError(f"NATS did not answer on {subject} in time") from error

    def listen(self, subject: str) -> tuple[list[Raw], bytes]:
        """Subscribe. Messages are appended to the list by another thread; the id ends it."""
        client, received = self.open(), list[Raw]()
        client._sid += 1  # noqa: SLF001 - nats-py counts its own subscriptions with it
        sid = str(client._sid).encode()  # noqa: SLF001
        self._lists[sid] = received
        self.send(command.sub_cmd(subject, "", sid.decode()))
        return received, sid

    def unlisten(self, sid: bytes) -> None:
        """End a subscription; its list is dropped."""
        if self._lists.pop(sid, None) is not None and self.alive:
            self.send(command.unsub_cmd(sid.decode(), 0))

    def send(self, commands: bytes) -> None:
        """Write protocol commands and wait until they are handed to the system.

        Raises:
            TransientError: the connection is lost, possibly with earlier messages.
        """
        if not self.alive:
            raise TransientError("the connection to NATS is lost")
        try:
            self._run(asyncio.wait_for(self._send(commands), _STALLED))
        except asyncio.TimeoutError as error:
            self._drop()
            raise TransientError("NATS accepts no more data") from error

    def check(self) -> None:
        """Raise ``ConfigurationError`` if the server has refused a subject to these credentials."""
        if self._refusal:
            raise ConfigurationError(
                f"NATS refuses these credentials a subject that is needed: {self._refusal}."
            )

    def inbox(self) -> str:
        """A unique subject."""
        return self.open().new_inbox()

    def close(self) -> None:
        """Disconnect and end the thread."""
        self._drop()
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = None

    def _drop(self) -> None:
        client, self._client = self._client, None
        self._lists.clear()
        if client is not None and not client.is_closed:
            # Do not wait for a server that accepts no more data.
            with contextlib.suppress(asyncio.TimeoutError):
                self._run(asyncio.wait_for(client.close(), _SECONDS))

    async def _send(self, commands: bytes) -> None:
        assert self._client is not None  # noqa: S101 - for mypy; send() has looked
        await self._client._send_command(commands)  # noqa: SLF001
        await self._client._flush_pending(force_flush=True)  # noqa: SLF001

    async def _connect(self) -> Client:
        client = RawClient(self._lists, self.arrived)
        try:
            await client.connect(
                self._servers,
                name="persistor",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                ping_interval=_PING,
                error_cb=self._note,
                skip_subject_validation=True,
                **self._credentials(),
            )
        except (OSError, errors.Error, asyncio.TimeoutError) as error:
            raise self._explained(error) from error
        self._refusal = ""
        return client

    async def _note(self, error: Exception) -> None:
        if "permissions violation" in str(error):
            self._refusal = str(error).removeprefix("nats: ")

    def _explained(self, error: Exception) -> PersistorError:
        where = ", ".join(map(_shown, self._servers))
        if "authorization" in str(error).lower() or "authentication" in str(error).lower():
            return ConfigurationError(
                f"NATS at {where} refuses the credentials; check user, password or token."
            )
        if isinstance(error, FileNotFoundError):
            return ConfigurationError(f"The NATS credentials file {error.filename!r} does not exist.")
        return TransientError(f"NATS at {where} cannot be reached: {str(error) or type(error).__name__}")

    def _credentials(self) -> dict[str, Any]:
        config = secrets.resolve_all(self._config)
        names = {"user": "user", "password": "password", "token": "token"}
        names |= {"credentials": "user_credentials", "nkey_seed": "nkeys_seed"}
        options: dict[str, Any] = {ours: config[name] for name, ours in names.items() if name in config}
        if any(name.startswith("tls_") for name in config):
            options["tls"] = _tls(config)
        return options

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _tls(config: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.get("tls_ca"))
        if "tls_cert" in config:
            context.load_cert_chain(config["tls_cert"], config.get("tls_key"))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"A tls_* file cannot be used: {error}.") from error
    return context
