"""DuckDB, Polars and Spark read the lake as the how-to page has it, and count the same."""

from __future__ import annotations

import re

import pytest

from tests._messages import with_checksums
from tests.docs.conftest import Reader, archived_orders
from tests.servers import Unavailable
from tests.servers.spark import Spark
from transforms import registry
from transforms.lake import Lake


@pytest.fixture
def spark() -> str:
    try:
        return str(Spark.install())
    except Unavailable as missing:
        pytest.skip(str(missing))


def test_each_engine_counts_the_versions_by_hour(reader: Reader, spark: str, tmp_path: object) -> None:
    file = registry.format_of("parquet").encode(with_checksums(archived_orders(100)))
    for lake in (Lake(f"file://{tmp_path}/lake"), reader.lake):
        for hour in (13, 14):
            path = f"orders/date=2026-11-23/hour={hour}/orders-0-{hour:020d}.parquet"
            assert lake.put_new(path, file)
    reader.session.environment |= {"PYTHONPATH": spark, "SPARK_LOCAL_IP": "127.0.0.1", "TZ": "UTC"}
    printed = reader.session.run("docs/how-to/query-the-lake.md", __file__)
    rows = re.findall(r"2026-11-23\W+(13|14)\W+(1|2)\W+(50)\b", printed)
    assert rows == [("13", "1", "50"), ("13", "2", "50"), ("14", "1", "50"), ("14", "2", "50")] * 3
    assert re.search(r"\b200\b", printed), "the lake in S3"
