"""The index stores that the contract applies to: one for each module of ``transforms.indexes``."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.servers import Server, Unavailable
from tests.servers.mongodb import MongoDB
from transforms import registry
from transforms.indexes import Index

SERVERS: dict[str, type[Server]] = {"mongodb": MongoDB}
"""What a store needs; one that is not named here needs a directory only."""


@pytest.fixture(scope="package", params=registry.names("indexes"))
def new_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], str]]:
    name = request.param
    if name not in SERVERS:
        directory = tmp_path_factory.mktemp(name)
        yield lambda: f"{name}://{directory}/{uuid.uuid4().hex}.db"
        return
    try:
        SERVERS[name].install()
    except Unavailable as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    with SERVERS[name]() as server:
        yield lambda: server.url.rsplit("/", 1)[0] + f"/t{uuid.uuid4().hex}"


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
def index(url: str) -> Iterator[Index]:
    opened = registry.index(url).open(url)
    yield opened
    opened.close()
