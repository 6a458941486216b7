"""Azurite: Azure Blob Storage on a local disk, from npm."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import ClassVar

import requests

from tests._traits import StoreTrait
from tests.servers import Server, fetch_once, run, tool

__all__ = ["Azurite"]

_VERSION = "3.35.0"
_NODE_LINE = "sudo apt-get install nodejs npm"
# The account and key that every Azurite has, as its documentation gives them.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_API = "2023-11-03"


class Azurite(Server):
    """Takes its well-known account only; its containers survive ``stop``, not ``kill``."""

    name: ClassVar[str] = "azurite"
    lacks: ClassVar[Mapping[StoreTrait, str]] = {
        StoreTrait.SHORT_NAMES: "it takes names of any length",
        StoreTrait.DURABLE: "what it confirmed may be gone after a kill",
    }

    @classmethod
    def install(cls) -> None:
        """Install the package with npm."""
        tool("node", _NODE_LINE)
        fetch_once(f"azurite-{_VERSION}", _fetch)

    @property
    def url(self) -> str:
        """The account's endpoint."""
        return f"http://127.0.0.1:{self.port}/{_ACCOUNT}"

    @property
    def config(self) -> dict[str, str]:
        """What a lake needs to reach it."""
        return {
            "azure_storage_endpoint": self.url,
            "azure_storage_account_name": _ACCOUNT,
            "azure_storage_account_key": _KEY,
        }

    def create_bucket(self, name: str) -> str:
        """Create a container; returns its URL as a lake."""
        answer = requests.put(
            f"{self.url}/{name}?restype=container", headers=_signed("PUT", name), timeout=10
        )
        answer.raise_for_status()
        return f"az://{name}"

    def command(self) -> Sequence[str]:
        """The blob service alone."""
        package = fetch_once(f"azurite-{_VERSION}", _fetch) / "node_modules/azurite/dist/src/blob/main.js"
        quiet = ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        listen = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        return [tool("node", _NODE_LINE), str(package), *quiet, "--location", str(self.data), *listen]

    def answers(self) -> bool:
        """Whether it refuses an unsigned request."""
        return requests.get(f"{self.url}?comp=list", timeout=2).status_code in {400, 403}


def _signed(method: str, container: str) -> dict[str, str]:
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _API}
    lines = [f"{name}:{value}" for name, value in sorted(headers.items())]
    resource = f"/{_ACCOUNT}/{_ACCOUNT}/{container}\nrestype:container"
    text = "\n".join([method, *[""] * 11, *lines, resource])
    digest = hmac.new(base64.b64decode(_KEY), text.encode(), hashlib.sha256).digest()
    return {**headers, "Authorization": f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}"}


def _fetch(target: Path) -> None:
    npm = tool("npm", _NODE_LINE)
    run([npm, "install", "--silent", "--no-audit", "--no-fund", f"azurite@{_VERSION}"], cwd=target)
