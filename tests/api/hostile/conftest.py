"""A service over each index store, of which nothing that a test sends may change anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pymongo import monitoring

from tests.api.conftest import Client, Site, order
from tests.api.hostile._texts import (
    SEARCH,
)
from transforms import registry
from transforms.replay.plans import new_job_id

KNOWN = {
    *("$match", "$sort", "$project", "$limit", "$group", "$set"),
    *("$and", "$or", "$in", "$nin", "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$type"),
    *(
        "$sum",
        "$min",
        "$max",
        "$first",
        "$floor",
        "$divide",
        "$mod",
        "$subtract",
        "$multiply",
        "$toLong",
        "$ifNull",
        "$cond",
        "$inc",
    ),
    *("$db", "$clusterTime", "$readPreference"),
}
"""Operators of our own queries, and what a client adds to a command."""


class Commands(monitoring.CommandListener):
    """The names that MongoDB takes for operators, in all commands but those that store documents."""

    def __init__(self) -> None:
        self.operators: set[str] = set()

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name not in {"insert", "createIndexes"}:
            self._take(event.command)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to see."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to see."""

    def _take(self, value: Any) -> None:
        if isinstance(value, Mapping):
            self.operators |= {name for name in value if name[:1] == "$"}
            value = list(value.values())
        if isinstance(value, list):
            for part in value:
                self._take(part)


COMMANDS = Commands()


@pytest.fixture(scope="module", params=["sqlite", "mongodb"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A place over each index store, with one message."""
    made = Site.at(tmp_path_factory.mktemp("hostile"))
    if request.param == "mongodb":
        server = request.getfixturevalue("mongodb").url.rpartition("/")[0]
        monitoring.register(COMMANDS)
        made.index_url = f"{server}/t{new_job_id()}"
        made.index = registry.index(made.index_url).open(made.index_url)
    made.archive(order(0, headers=[{"name": "version", "value": b"2"}]))
    yield made
    made.index.close()


@pytest.fixture(scope="module")
def exposed(site: Site) -> Iterator[Client]:
    with site.serve({"main": "nats://127.0.0.1:1"}, compatible=(("c", "main"),)) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_ran(exposed: Client) -> Iterator[None]:
    """Whatever a test did, the message is there, alone, and MongoDB got our operators only."""
    yield
    [message] = exposed.post(SEARCH, json={"selection": {"sources": ["orders"]}}).json()["messages"]
    assert message["id"] == "orders_0_0"
    assert exposed.get("/readyz").status_code == 200
    assert COMMANDS.operators <= KNOWN
