"""The how-to page of S3: from the bucket's credentials to a resubmission."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests._replay import consumed
from tests.docs._blocks import indexed
from tests.docs.conftest import Reader, orders
from tests.servers.moto import Moto
from transforms.lake import Lake


def test_a_topic_is_archived_in_s3_and_sent_again(reader: Reader, tmp_path: Path) -> None:
    for name in [name for name in reader.session.environment if name.startswith("AWS_")]:
        del reader.session.environment[name]  # the page sets what is needed
    for topic in ("orders", "orders-replay"):
        reader.kafka.create_topic(topic)
    reader.kafka.produce("orders", orders(200))
    reader.session.run(
        "docs/how-to/s3.md", __file__, ready=lambda: indexed(f"sqlite://{tmp_path}/index.db") == 200
    )
    assert consumed(reader.kafka, "orders-replay") == consumed(reader.kafka, "orders")
    assert [path for path, _ in reader.lake.list("orders")]


def test_an_endpoint_without_tls_may_stand_in_its_usual_variable(
    moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = moto.create_bucket("usual")
    for name, value in moto.config.items():
        monkeypatch.setenv(f"AWS_{'ENDPOINT_URL' if name == 'endpoint' else name.upper()}", value)
    assert Lake(lake).put_new("a", b"1")
    assert bytes(Lake(lake).get("a")) == b"1"
