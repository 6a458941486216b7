"""What the documents' reader has: brokers, a bucket and an index under the names that stand there."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests._messages import row, table
from tests.docs._blocks import Session, indexed
from tests.servers._s3 import PASSWORD, REGION, USER
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB
from tests.servers.moto import Moto
from transforms.lake import Lake

__all__ = ["Reader", "archived_orders", "orders"]


def orders(count: int) -> list[Mapping[str, Any]]:
    """Messages with a customer as their key and a header ``version``, which is 1 or 2."""
    return [
        {
            "key": f"customer-{number % 50}",
            "value": f"order {number}",
            "headers": [("version", str(number % 2 + 1).encode())],
        }
        for number in range(count)
    ]


def archived_orders(count: int, age: float = 0) -> pa.Table:
    """The same messages as they are archived, published ``age`` seconds ago."""
    then = (time.time_ns() // 1_000_000 - int(age * 1000)) * 1000
    return table(
        *[
            row(
                topic="orders",
                offset=number,
                publish_time=then,
                key=message["key"].encode(),
                data=message["value"].encode(),
                headers=[{"name": name, "value": value} for name, value in message["headers"]],
            )
            for number, message in enumerate(orders(count))
        ]
    )


@dataclass(frozen=True)
class Reader:
    """A reader with Kafka, S3 and MongoDB.

    Attributes:
        lake: the lake that the documents call ``s3://archive/kafka``.
        index: the URL of the index that they call ``mongodb://mongo/persistor``.
    """

    session: Session
    kafka: Kafka
    lake: Lake
    index: str

    def has_indexed(self, messages: int) -> Callable[[], bool]:
        """Whether the index holds that many messages by now."""
        return lambda: indexed(self.index) == messages


@pytest.fixture
def reader(tmp_path: Path, kafka: Kafka, moto: Moto, mongodb: MongoDB) -> Reader:
    name = f"docs-{uuid.uuid4().hex[:10]}"
    lake, index = f"{moto.create_bucket(name)}/kafka", f"{mongodb.url.rpartition('/')[0]}/{name}"
    places = {
        "broker:9092": kafka.bootstrap,
        "s3://archive/kafka": lake,
        "mongodb://mongo/persistor": index,
        "http://minio:9000": moto.url,
    }
    session = Session(tmp_path, places)
    session.environment |= {
        "AWS_ACCESS_KEY_ID": USER,
        "AWS_SECRET_ACCESS_KEY": PASSWORD,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": moto.url,
    }
    return Reader(session, kafka, Lake(lake, moto.config), index)
