"""Settings and help texts shared by several commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transforms.settings import flag, pairs, required, several
from transforms.settings.kinds import URL

__all__ = ["BROKER_CLIENT", "INDEX_URL", "ArchiveSettings", "JsonSettings", "LakeSettings"]

BROKER_CLIENT = (
    "setting of the broker's client, such as sasl.username=me; values may be ${env:NAME} or ${file:PATH}"
)
INDEX_URL = "mongodb://HOST/DATABASE, or sqlite:///FILE on one machine"
_STORE_CLIENT = (
    "setting of the store's client, such as endpoint=http://HOST:9000; default: the usual AWS_…, "
    "GOOGLE_… and AZURE_… variables"
)


@dataclass(frozen=True, kw_only=True)
class LakeSettings:
    """The lake of a command."""

    lake: str = required(
        URL,
        "lake",
        "location of the files: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or "
        "file:///DIRECTORY",
    )
    lake_config: Mapping[str, str] = pairs("lake", _STORE_CLIENT)


@dataclass(frozen=True, kw_only=True)
class ArchiveSettings:
    """An archive: the index and the lakes that it refers to."""

    lakes: tuple[str, ...] = several(
        URL,
        "lake",
        "lake that the index refers to; locations outside the given lakes are refused",
        name="lake",
        required=True,
    )
    lake_config: Mapping[str, str] = pairs("lake", _STORE_CLIENT)
    index: str = required(URL, "index", f"the index: {INDEX_URL}")


@dataclass(frozen=True, kw_only=True)
class JsonSettings:
    """The output format of a command."""

    json: bool = flag("running", "print JSON")
