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
    """A broker that requests may send to: its URL without a topic, and its client's configuration."""

    url: str
    config: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ApiSettings(ArchiveSettings):
    """What ``persistor api`` serves.

    Attributes:
        destination_urls: names that requests use, and the URLs of their brokers.
        inline_limit: messages up to which a selection is sent without a job.
        tokens: where None, everybody who reaches the service may do everything.
        jobs_directory: where the processes of jobs find their settings and leave their output (created
            with mode 0700); None is one of this user below the system's temporary directory.
    """

    command: ClassVar[str] = "api"
    destination_urls: tuple[tuple[str, str], ...] = several(
        Kind("NAME=URL", pair),
        "broker",
        "a broker that requests may send to, under the name they use: replay=kafka://HOST:9092",
        name="destination",
        required=True,
    )
    destination_configs: tuple[tuple[str, str], ...] = several(
        Kind("NAME:SETTING=VALUE", pair),
        "broker",
        "a setting of one destination's client, behind the destination's name: replay:sasl.username=me",
        name="destination_config",
    )
    host: str = setting(
        Kind("ADDRESS", str),
        "running",
        "address to listen on; another than this machine's own needs --tokens",
        default="127.0.0.1",
    )
    port: int = setting(PORT, "running", "port to listen on", default="8080")
    inline_limit: int = setting(
        WHOLE,
        "running",
        "a selection of up to so many messages is sent by the API itself, a larger one by a job",
        default="1000",
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
        "an option of Beam for jobs on Flink, such as flink_master=http://HOST:8081, "
        "environment_type=EXTERNAL or parallelism=4; or on Dataflow: project, region, temp_location and "
        "sdk_container_image are needed",
    )
    metrics: tuple[str, ...] = several(
        Kind("URL", str),
        "running",
        "metrics of a process of persist, http://HOST:2112/metrics, whose lag the first page then shows",
    )
    tokens: str | None = optional(
        Kind("FILE", str),
        "access",
        "list of the tokens that are let in, made with `persistor token` and read again when it changes; "
        "${env:NAME} where a variable holds the list",
    )
    session_key: str | None = optional(
        TEXT,
        "access",
        "signs the logins of the pages, at least 32 characters, the same for all replicas: "
        "${file:PATH} or ${env:NAME}; without it logins end with the process",
    )
    requests_per_minute: int = setting(
        COUNT, "access", "so many requests a token may make of a process", default="1200"
    )
    trusted_proxy: str | None = optional(
        Kind("ADDRESS", str),
        "access",
        "proxy whose X-Forwarded-For, -Proto and -Host are believed, * for any; behind one that "
        "speaks https the cookies of logins are bound to it",
    )
    compatible: tuple[tuple[str, str], ...] = several(
        Kind("COLLECTION=NAME", pair),
        "access",
        "take requests as the Resubmitter and the Indexer API of Dataphos Persistor do, for this "
        "collection, and send to the destination of this name",
    )
    jobs_directory: Path | None = None

    @property
    def destinations(self) -> dict[str, DestinationSettings]:
        """What a request may send to, by the names that requests use."""
        return {name: DestinationSettings(url, self._config_of(name)) for name, url in self.destination_urls}

    def _config_of(self, name: str) -> dict[str, str]:
        split = [(*key.partition(":"), value) for key, value in self.destination_configs]
        return {setting: value for owner, _, setting, value in split if owner == name}


@dataclass(frozen=True, kw_only=True)
class TokenSettings:
    """What ``persistor token`` makes; the patterns are empty where all are meant."""

    command: ClassVar[str] = "token"
    name: str = required(TEXT, "access", "who it is for, as the audit trail will say")
    role: str = setting(
        _CHOICE,
        "access",
        "viewer searches and looks, operator plans, sends and controls as well, admin may see the "
        "audit trail too",
        default="viewer",
        choices=("viewer", "operator", "admin"),
    )
    allow_source: tuple[str, ...] = several(
        _PATTERN, "access", "sources that it opens, such as 'orders*'; all unless given"
    )
    allow_destination: tuple[str, ...] = several(
        _PATTERN,
        "access",
        "destinations that it may send to, such as replay or 'replay/orders-*'; all unless given",
    )
