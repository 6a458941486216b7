"""Requests of Dataphos Persistor where something is wrong or not allowed, and over an index of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import requests

from pipelines.settings.parsing import parse
from resubmit_api.auth.tokens import digest_of
from resubmit_api.settings import ApiSettings
from tests.api.conftest import Site, Streams, order
from tests.api.test_compatible import (
    COUNTS,
    DATA,
    FILE,
    documents,
    metadata,
)
from tests.servers.nats import Nats
from transforms import registry
from transforms.errors import ConfigurationError
from transforms.metadata.dataphos import from_dataphos_metadata


class TestFaults:
    """What that product sent without a word."""

    @pytest.fixture
    def site(self, site: Site) -> Site:
        assert site.lake.put_new(FILE, (DATA / "lake_msg-0_0_1000.avro").read_bytes())
        held = list(documents(site.lake.location(FILE)).values())[:4]
        held[1]["location_position"] = (
            900  # as after a file that was written over: another message lies there
        )
        held[2]["location_key"] = site.lake.location("gone.avro")
        site.index.insert(pa.concat_tables([from_dataphos_metadata(metadata(each)) for each in held]))
        self.ids = [each["unique_id"] for each in held]
        return site

    def test_a_message_that_is_another_one_is_not_sent(
        self, site: Site, nats: Nats, streams: Streams
    ) -> None:
        topic = streams.create("compatible-faults")
        with site.serve({"main": nats.url}, compatible=(("c", "main"),)) as client:
            answer = client.post(f"/resubmit/c?topic={topic}", json={"ids": self.ids})
            assert answer.status_code == 206
            told = answer.json()
            assert (told["status"], told["msg"]) == (206, "partial resubmission")
            assert told["summary"] == {"starting_count": 4} | dict(zip(COUNTS, (4, 3, 2, 2), strict=True))
            assert {error["id"]: error["reason"] for error in told["errors"]["pipeline_errors"]} == {
                self.ids[1]: "deserialization_error",
                self.ids[2]: "storage_error",
            }
            assert client.get(f"/v1/resubmissions/{told['resubmission']}").json()["state"] == "FAILED"
            alone = client.post(f"/resubmit/c?topic={topic}", json={"ids": [self.ids[1]]})
            assert (alone.status_code, alone.json()["summary"]["published_count"]) == (400, 0)
        assert streams.count(topic) == 2


def test_a_collection_is_sent_to_a_destination_that_there_is() -> None:
    words = ["--index=sqlite:///i.db", "--lake=file:///lake", "--destination=main=nats://h:1"]
    assert parse(ApiSettings, [*words, "--compatible=c=main"])[0].compatible == (("c", "main"),)
    with pytest.raises(
        ConfigurationError, match="--compatible c=other: other is not a NAME of --destination"
    ):
        parse(ApiSettings, [*words, "--compatible=c=other"])


class TestAccess:
    def token(self, name: str, **others: Any) -> dict[str, Any]:
        return {"name": name, "sha256": digest_of(name), "role": "operator"} | others

    def test_roles_and_allow_lists_hold_here_too(
        self, site: Site, tmp_path: Path, nats: Nats, streams: Streams
    ) -> None:
        site.archive(order(0))
        site.archive(order(0, topic="payments"), source="payments")
        lines = [
            self.token("viewer", role="viewer"),
            self.token("narrow", sources=["orders"], destinations=["main/compatible-*"]),
        ]
        (tmp_path / "tokens.yaml").write_text(json.dumps(lines))
        topic = streams.create("compatible-narrow")
        everything = {"filters": [{"unique_id": {"$exists": True}}]}
        with site.serve(
            {"main": nats.url}, compatible=(("c", "main"),), tokens=str(tmp_path / "tokens.yaml")
        ) as client:

            def ask(name: str, path: str, body: Any = None) -> requests.Response:
                method = "GET" if body is None else "POST"
                return client.request(method, path, json=body, headers={"Authorization": f"Bearer {name}"})

            assert client.get("/exact/c/orders_0_0").status_code == 401
            assert ask("viewer", "/query/c", everything).json()["total_count"] == 2
            assert ask("viewer", f"/query/c?topic={topic}", everything).status_code == 403
            assert ask("viewer", f"/resubmit/c?topic={topic}", {"ids": ["orders_0_0"]}).status_code == 403
            assert ask("narrow", "/query/c", everything).json()["total_count"] == 1
            assert ask("narrow", "/exact/c/payments_0_0").json() is None
            assert (
                ask("narrow", "/all/c", {"ids": ["payments_0_0", "orders_0_0"]}).json()[0]["broker_id"]
                == "orders"
            )
            assert ask("narrow", "/range/c/payments").status_code == 403
            assert ask("narrow", "/resubmit/c?topic=other", {"ids": ["orders_0_0"]}).status_code == 403
            sent = ask("narrow", f"/query/c?topic={topic}", everything)
            assert sent.json()["summary"]["published_count"] == streams.count(topic) == 1

    def test_without_a_collection_the_addresses_are_not_there(self, site: Site) -> None:
        with site.serve({"main": "nats://127.0.0.1:1"}) as client:
            assert client.get("/exact/c/orders_0_0").status_code == 404
            assert client.post("/resubmit/c?topic=x", json={"ids": []}).status_code == 404


def test_our_own_index_is_listed_in_those_documents(site: Site) -> None:
    site.archive(order(7, key=b"k", headers=[{"name": "a", "value": b"b"}]))
    with site.serve({"main": "nats://127.0.0.1:1"}, compatible=(("c", "main"),)) as client:
        [document] = client.get("/exact/c/orders_0_7").json()
    assert registry.format_of(document.pop("location_key")).__name__.endswith("parquet")
    assert document == {
        "broker_id": "orders",
        "broker_msg_id": "0_7",
        "unique_id": "orders_0_7",
        "ordering_key": "k",
        "location_position": 1,
        "publish_time": "2023-11-14T22:13:27Z",
        "ingestion_time": "2026-11-01T00:00:00Z",
        "indexer_ingestion_time": "2026-11-01T00:00:00Z",
        "additional_metadata": {"a": "b"},
    }
