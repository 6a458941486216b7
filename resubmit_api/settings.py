"""The settings of the API and of its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from transforms.discovery import Found
from transforms.settings import optional, pairs, required, setting, several
from transforms.settings.kinds import COUNT, PORT, TEXT, WHOLE, Kind, pair
from transforms.settings.shared import ArchiveSettings

__all__ = ["ApiSettings", "DestinationSettings", "TokenSettings"]

_PATTERN = Kind("PATTERN", str)
_CHOICE = Kind("CHOICE", str)


@dataclass(frozen=True)
class DestinationSettings:
    """A broker that requests may send to: its URL without a topic, and its client's settings."""

    url: str
    config: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ApiSettings(ArchiveSettings):
    """Settings of ``persistor api``.

    Attributes:
        destination_urls: names used in requests, and the URLs of their brokers.
        inline_limit: maximum messages of a selection that is sent without a job.
        tokens: if None, everybody who reaches the service may do everything.
        jobs_directory: where job processes find their settings and leave their output (created with mode
            0700); None uses a directory of this user below the system's temporary one.
    """

    command: ClassVar[str] = "api"
    destination_urls: tuple[tuple[str, str], ...] = several(
        Kind("NAME=URL", pair),
        "broker",
        "broker that requests may send to, with its name in requests: replay=kafka://HOST:9092",
        name="destination",
        required=True,
    )
    destination_configs: tuple[tuple[str, str], ...] = several(
        Kind("NAME:SETTING=VALUE", pair),
        "broker",
        "setting of one destination's client, after the destination's name: replay:sasl.username=me",
        name="destination_config",
    )
    host: str = setting(
        Kind("ADDRESS", str),
        "running",
        "address to listen on; any address except this machine's own needs `tokens`",
        default="127.0.0.1",
    )
    port: int = setting(PORT, "running", "port to listen on", default="8080")
    inline_limit: int = setting(
        WHOLE,
        "running",
        "maximum messages of a selection that the API sends itself; a job sends larger ones",
        default="1000",
    )
    jobs_per_destination: int = setting(
        COUNT,
        "running",
        "maximum jobs that this process runs at a time to one destination, without those that wait for a "
        "server or have a rate limit; further ones are queued",
        default="4",
    )
    jobs_at_once: int = setting(
        COUNT,
        "running",
        "maximum jobs that this process runs at a time in all; a destination without a job may always begin "
        "one",
        default="16",
    )
    launcher: str = setting(
        _CHOICE,
        "running",
        "where jobs run: in processes of this machine (subprocess), on an Apache Flink cluster, or on Google "
        "Cloud Dataflow",
        default="subprocess",
        choices=Found("resubmit_api.launchers"),
    )
    launcher_config: Mapping[str, str] = pairs(
        "running",
        "Beam option of jobs; on Flink such as flink_master=http://HOST:8081, environment_type=EXTERNAL "
        "or parallelism=4; on Dataflow project, region, temp_location and sdk_container_image are "
        "required",
    )
    metrics: tuple[str, ...] = several(
        Kind("URL", str),
        "running",
        "metrics address of a persist process, such as http://HOST:2112/metrics, to show its lag",
    )
    tokens: str | None = optional(
        Kind("FILE", str),
        "access",
        "file with the list of valid tokens, made with `persistor token` and reloaded when it changes; "
        "or ${env:NAME} for a variable with the list",
    )
    session_key: str | None = optional(
        TEXT,
        "access",
        "key that signs the logins of the pages, at least 32 characters, the same for all replicas: "
        "${file:PATH} or ${env:NAME}; without it, logins end with the process",
    )
    requests_per_minute: int = setting(
        COUNT, "access", "requests per minute allowed per token and process", default="1200"
    )
    trusted_proxy: str | None = optional(
        Kind("ADDRESS", str),
        "access",
        "proxy trusted to set X-Forwarded-For, -Proto and -Host, * for any; behind an https proxy, "
        "login cookies are bound to https",
    )
    approval: tuple[str, ...] = several(
        TEXT,
        "access",
        "name of a destination to which only plans are sent that a second person has approved; needs "
        "`tokens`",
    )
    approver: str = setting(
        _CHOICE,
        "access",
        "lowest role of who may approve a plan",
        default="operator",
        choices=("operator", "admin"),
    )
    webhook: str | None = optional(
        Kind("URL", str),
        "running",
        "address that is sent a signed request at the end of each resubmission, until it accepts it",
    )
    webhook_secret: str | None = optional(
        TEXT,
        "running",
        "secret that signs these requests, at least 32 characters: ${file:PATH} or ${env:NAME}",
    )
    compatible: tuple[tuple[str, str], ...] = several(
        Kind("COLLECTION=NAME", pair),
        "access",
        "accept requests in the format of Dataphos Persistor's Resubmitter and Indexer API for this "
        "collection, and send to the destination with this name",
    )
    jobs_directory: Path | None = None

    @property
    def destinations(self) -> dict[str, DestinationSettings]:
        """The destinations of requests, by name."""
        return {name: DestinationSettings(url, self._config_of(name)) for name, url in self.destination_urls}

    def _config_of(self, name: str) -> dict[str, str]:
        split = [(*key.partition(":"), value) for key, value in self.destination_configs]
        return {setting: value for owner, _, setting, value in split if owner == name}


@dataclass(frozen=True, kw_only=True)
class TokenSettings:
    """Settings of ``persistor token``; empty patterns allow all."""

    command: ClassVar[str] = "token"
    name: str = required(TEXT, "access", "owner of the token, as shown in the audit trail")
    role: str = setting(
        _CHOICE,
        "access",
        "viewer may search and read, operator may also plan, send and control, admin may also see the "
        "audit trail",
        default="viewer",
        choices=("viewer", "operator", "admin"),
    )
    allow_source: tuple[str, ...] = several(
        _PATTERN, "access", "sources the token may read, such as 'orders*'; default: all"
    )
    allow_destination: tuple[str, ...] = several(
        _PATTERN,
        "access",
        "destinations the token may send to, such as replay or 'replay/orders-*'; default: all",
    )
