"""The how-to page of retention: a plan deletes nothing; then old files go, with their entries."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path

from tests._archive import archive
from tests.docs._blocks import Session, indexed
from tests.docs.conftest import archived_orders
from tests.servers.mongodb import MongoDB
from transforms import registry
from transforms.lake import Lake


def test_what_is_too_old_is_deleted_and_the_rest_stays(mongodb: MongoDB, tmp_path: Path) -> None:
    lake, url = Lake(f"file://{tmp_path}/lake"), f"{mongodb.url.rpartition('/')[0]}/retention"
    with closing(registry.index(url).open(url)) as index:
        [old] = archive(lake, index, archived_orders(100, age=500 * 86400))
        [new] = archive(lake, index, archived_orders(50), source="payments")
    for location, days in ((old, 499), (new, 2)):
        then = time.time() - days * 86400
        os.utime(location.removeprefix("file://"), (then, then))

    places = {"s3://archive/kafka": lake.url, "mongodb://mongo/persistor": url}
    printed = Session(tmp_path, places).run("docs/how-to/retention.md", __file__)
    assert "--yes" in printed
    assert indexed(url) == 50
    assert [lake.location(path) for path, _ in lake.list()] == [new]
