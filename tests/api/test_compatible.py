"""The addresses of Dataphos Persistor's APIs: what its own services answered, and where ours are better."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import requests
from pymongo import MongoClient

from resubmit_api import compatible as comparing
from resubmit_api.compatible import views
from tests.api.conftest import Client, Site, Streams, order
from tests.servers import wait_until
from tests.servers.mongodb import MongoDB
from tests.servers.nats import Nats
from transforms.formats import avro
from transforms.metadata.dataphos import from_dataphos_metadata

DATA = Path(__file__).parents[1] / "data" / "dataphos"


EXCHANGES = {
    exchange["name"]: exchange for exchange in json.loads((DATA / "rest_exchanges.json").read_text())
}


FILE = "vref.s/2026/11/23/09/msg-0_0.avro"


TOPIC = "vref.s.rest".replace(".", "-")  # a stream's name has no dots


SOURCE = "vref.s.src"


FIRST = datetime(2026, 11, 23, 8, 30, 13, 726_000, tzinfo=timezone.utc)


INGESTED = "2026-11-23T09:47:42.92Z"


COUNTS = ("indexed_count", "fetched_count", "deserialized_count", "published_count")


def documents(location: str) -> dict[str, dict[str, Any]]:
    """What that product's index held of the 1,000 messages: a message a millisecond, by their number."""
    found = {}
    for position, row in enumerate(
        avro.decode((DATA / "lake_msg-0_0_1000.avro").read_bytes()).to_pylist(), 1
    ):
        headers = {h["name"]: (h["value"] or b"").decode(errors="replace") for h in row["headers"]}
        time = FIRST + timedelta(milliseconds=int(headers["seq"]))
        named = {name: headers.pop(f"business_{name}_key", None) for name in ("source", "object")}
        document = {
            "broker_id": SOURCE,
            "broker_msg_id": f"{row['partition']}_{row['offset']}",
            "business_source_key": named["source"],
            "business_object_key": named["object"],
            "unique_id": f"{SOURCE}_{row['partition']}_{row['offset']}",
            "location_key": location,
            "location_position": position,
            "publish_time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "additional_metadata": headers,
        }
        found[document["unique_id"]] = {name: value for name, value in document.items() if value}
    return found


def shown(document: dict[str, Any]) -> dict[str, Any]:
    """A document as Go writes it: no zeros at the end of a second's fraction."""
    time = document["publish_time"].rstrip("Z").rstrip("0").rstrip(".") + "Z"
    return document | {"publish_time": time}


def metadata(document: dict[str, Any]) -> bytes:
    """The message of that product's metadata topic which the document came from."""
    place = {name: document[name] for name in ("location_key", "location_position")}
    times = {"publish_time": document["publish_time"], "ingestion_time": INGESTED}
    return json.dumps(document | {"location": place, "timestamp": times}).encode()


def in_mongodb(server: MongoDB, held: dict[str, dict[str, Any]]) -> str:
    """URL of a collection with the documents as that product's indexer wrote them."""
    url = f"{server.url.rpartition('/')[0]}/t{uuid.uuid4().hex}"
    rows = [
        document
        | {
            "publish_time": datetime.fromisoformat(document["publish_time"].replace("Z", "+00:00")),
            "ingestion_time": datetime(2026, 11, 23, 9, 47, 42, 920_000, tzinfo=timezone.utc),
            "confirmation_flag": False,
        }
        for document in held.values()
    ]
    with MongoClient[dict[str, Any]](server.url) as client:
        client[url.rpartition("/")[2]].messages.insert_many(rows)
    return url


@pytest.fixture(scope="module", params=["sqlite", "mongodb"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, nats: Nats, streams: Streams
) -> Iterator[Client]:
    """A service over that product's file and index, which calls its collection ``smoke2``."""
    site = Site.at(tmp_path_factory.mktemp("compatible"))
    assert site.lake.put_new(FILE, (DATA / "lake_msg-0_0_1000.avro").read_bytes())
    held = documents(site.lake.location(FILE))
    if request.param == "mongodb":
        site.index_url = in_mongodb(request.getfixturevalue("mongodb"), held)
    else:
        site.index.insert(
            pa.concat_tables([from_dataphos_metadata(metadata(each)) for each in held.values()])
        )
    topic = streams.create(f"{TOPIC}-{request.param}")
    with site.serve({"main": nats.url}, compatible=(("smoke2", "main"),)) as client:
        client.site, client.topic, client.documents = site, topic, held  # type: ignore[attr-defined]
        yield client
    site.index.close()


def exchange(client: Client, name: str) -> tuple[requests.Response, dict[str, Any]]:
    """Our answer, and that of the product with our names for topic and lake."""
    recorded = EXCHANGES[name]
    sent, path = recorded["request"], recorded["path"].replace("vref.s.rest", client.topic)
    body = sent if isinstance(sent, str) or sent is None else json.dumps(sent)
    ours = json.dumps(recorded["response"]).replace(f"gs://lake/{FILE}", client.site.lake.location(FILE))
    return client.request(recorded["method"], path, data=body), recorded | {"response": json.loads(ours)}


def plain(value: Any) -> Any:
    """Without the moment of the answer, which some refusals name."""
    if isinstance(value, str):
        return value.partition("(current time")[0]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


DIFFERENT = {
    "resubmit GET",  # 405 says more than 404
    "resubmit no collection",  # an address of a page
    "range with offset timezone",  # the zone counts
    "idx exact",  # when the entry was indexed is not kept
    "idx range",  # the order of pages stays
    "idx range default limit",
    "idx query",
}


@pytest.mark.parametrize("name", [name for name in EXCHANGES if name not in DIFFERENT])
def test_the_answer_is_that_of_the_product(service: Client, name: str) -> None:
    answer, recorded = exchange(service, name)
    assert answer.status_code == recorded["status"], answer.text
    assert answer.headers["Content-Type"] == recorded["content_type"]
    assert plain(answer.json()) == plain(recorded["response"])


def test_a_message_is_looked_up(service: Client) -> None:
    answer, recorded = exchange(service, "idx exact")
    [expected] = recorded["response"]
    assert answer.json() == [expected | {"indexer_ingestion_time": expected["ingestion_time"]}]


@pytest.mark.parametrize("name", ["idx range", "idx range default limit", "idx query"])
def test_pages_have_their_shape_and_an_order_that_stays(service: Client, name: str) -> None:
    answer, recorded = exchange(service, name)
    ours, theirs = answer.json(), recorded["response"]
    listed, expected = ours.pop("messages"), theirs.pop("messages")
    assert (answer.status_code, ours) == (recorded["status"], theirs)
    assert expected == [shown(service.documents[message["unique_id"]]) for message in expected]
    whole = sorted(service.documents.values(), key=lambda each: (each["publish_time"], each["unique_id"]))
    assert listed == [shown(each) for each in whole[ours["offset"] :][: ours["limit"]]]


def test_pages_of_any_size_give_each_message_once(service: Client) -> None:
    found = []
    for offset in range(0, 1100, 300):
        page = service.get(f"/range/smoke2/{SOURCE}?limit=300&offset={offset}").json()
        found += [message["unique_id"] for message in page["messages"] or []]
        assert (page["total_count"], page["returned_count"]) == (1000, max(0, min(300, 1000 - offset)))
    assert len(found) == len(set(found)) == 1000


def test_a_wrong_method_is_reported(service: Client) -> None:
    assert exchange(service, "resubmit GET")[0].status_code == 405


def test_a_bound_with_another_zone_is_the_moment_that_it_names(service: Client) -> None:
    answer, _ = exchange(service, "range with offset timezone")
    assert answer.json()["summary"] == dict.fromkeys(COUNTS, 1000)


def test_the_messages_are_those_that_were_archived(service: Client, streams: Streams) -> None:
    topic = streams.create(f"{service.topic}-payloads")
    body = {"ids": [f"{SOURCE}_1_63", f"{SOURCE}_0_3"]}
    assert (
        service.post(f"/resubmit/smoke2?topic={topic}", json=body).json()["summary"]["published_count"] == 2
    )
    texts = [json.loads(payload)["i"] for payload in streams.payloads(topic)]
    assert sorted(texts) == [10, 266]


def test_requests_at_the_same_time_keep_their_own_counts(service: Client) -> None:
    ids = list(service.documents)

    def resubmit(number: int) -> dict[str, Any]:
        body = {"ids": ids[:number]}
        return service.post(f"/resubmit/smoke2?topic={service.topic}", json=body).json()["summary"]

    numbers = [1, 300, 7, 1000, 50]
    with ThreadPoolExecutor(5) as threads:
        summaries = list(threads.map(resubmit, numbers))
    assert summaries == [{"starting_count": n} | dict.fromkeys(COUNTS, n) for n in numbers]


def test_a_missing_topic_is_reported_and_the_service_stays(service: Client) -> None:
    for topic in ("no-such-subject", "a/b", "a,b", "%00", "__consumer_offsets"):
        answer = service.post(f"/resubmit/smoke2?topic={topic}", json={"ids": [f"{SOURCE}_1_63"]})
        told = answer.json()
        assert (answer.status_code, told["msg"]) == (400, "resubmission failed due to bad request")
        assert told["errors"]["indexer_errors"][0]["reason"]
    assert service.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ([{"broker_id": SOURCE}], 1000),
        ([{"broker_id": {"$ne": SOURCE}}], 0),
        ([{"broker_id": {"$in": [SOURCE, "x"]}, "broker_msg_id": "0_3"}], 1),
        ([{"broker_msg_id": {"$in": ["0_3", "1_63"]}}], 2),
        ([{"broker_id": "x"}, {"unique_id": f"{SOURCE}_0_3"}], 1),
        ([{"location_position": {"$gte": 3, "$lte": 5}}, {"location_position": 5}], 3),
        ([{"location_position": {"$nin": [1, 2]}}], 998),
        ([{"ingestion_time": "2026-11-23T09:47:42.92Z", "additional_metadata.seq": "10"}], 1),
        ([{"ingestion_time": {"$lt": "2026-11-23T09:47:42.92Z"}}], 0),
        ([{"additional_metadata.nullv": {"$exists": True}}], 10),
        ([{"business_source_key": "bsrc"}], 100),
        ([{"additional_metadata.seq": {"$in": ["1", "2"]}, "additional_metadata.source": "smoke"}], 2),
        ([{"publish_time": {"$gte": "2026-11-23T08:30:14Z"}, "location_position": {"$exists": False}}], 0),
    ],
)
def test_filters_mean_what_they_meant(service: Client, filters: list[dict[str, Any]], count: int) -> None:
    answer = service.post("/query/smoke2", json={"filters": filters})
    assert answer.status_code == 200, answer.text
    assert answer.json()["total_count"] == count


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/query/smoke2", {"filters": [{"$where": "sleep(1)"}]}),
        ("POST", "/query/smoke2", {"filters": [{"broker_id": {"$regex": ".*"}}]}),
        ("POST", "/query/smoke2", {"filters": [{"broker_id": {"$gt": 5}}]}),
        ("POST", "/query/smoke2", {"filters": [{"location_position": "3"}]}),
        ("POST", "/query/smoke2", {"filters": [{"location_position": {"$in": 3}}]}),
        ("POST", "/query/smoke2", {"filters": [{"location_position": 1 << 70}]}),
        ("POST", "/query/smoke2", {"filters": [{"additional_metadata.a": {"b": 1}}]}),
        ("POST", "/query/smoke2", {"filters": [{"additional_metadata.a": None}]}),
        ("POST", "/query/smoke2", {"filters": [{"index_source_key": "x"}]}),
        ("POST", "/query/smoke2", {"filters": [{"location_key": "\ud800"}]}),
        ("POST", "/query/smoke2", {"filters": [{"location_key": {"$in": ["\ud800"]}}]}),
        ("POST", "/query/smoke2", {"filters": [{"broker_id": {"$ne": "\ud800"}}]}),
        ("POST", "/query/smoke2", {"filters": [5]}),
        ("POST", "/query/smoke2", {"filters": "x"}),
        ("POST", "/query/smoke2", []),
        ("POST", "/query/smoke2", "[" * 100_000),
        ("POST", "/query/smoke2", b"\xff"),
        ("POST", "/all/smoke2", {"ids": [1]}),
        ("POST", "/all/smoke2", {"ids": ["\ud800"]}),
        ("POST", "/all/smoke2", {"ids": [str(n) for n in range(10_001)]}),
        ("POST", "/range/smoke2?topic=x", {"broker_id": {"$ne": ""}}),
        ("POST", "/range/smoke2?topic=x", {"broker_id": "x", "lb": 5}),
        ("POST", "/range/smoke2?topic=x", {"broker_id": "x", "lb": "2026-11-23T25:00:00Z"}),
        ("GET", f"/range/smoke2/{SOURCE}?offset=99999999", None),
        ("GET", f"/range/smoke2/{SOURCE}?from=2026-11-23T08:00:00", None),
    ],
)
def test_what_is_wrong_is_refused(service: Client, method: str, path: str, body: Any) -> None:
    data = body if isinstance(body, (str, bytes)) or body is None else json.dumps(body)
    answer = service.request(method, path, data=data)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


def test_no_filter_reads_the_whole_of_a_large_index(service: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "_MOST_READ", 999)
    answer = service.post("/query/smoke2", json={"filters": [{"location_position": 5}]})
    assert (answer.status_code, answer.json()["error"].partition(";")[0]) == (
        400,
        "more than 999 messages would be compared",
    )
    narrow = [{"location_position": 5, "unique_id": f"{SOURCE}_0_3"}]
    assert service.post("/query/smoke2", json={"filters": narrow}).status_code == 200


@pytest.mark.parametrize("query", ["limit=x", "limit=-5&offset=-1", "limit=0", "limit=%00&offset=1e9"])
def test_a_page_that_makes_no_sense_is_the_first_one(service: Client, query: str) -> None:
    page = service.get(f"/range/smoke2/{SOURCE}?{query}").json()
    assert (page["limit"], page["offset"], page["returned_count"]) == (20, 0, 20)


def test_a_collection_that_is_not_configured_holds_nothing(service: Client) -> None:
    for path in (f"/range/other/{SOURCE}", f"/exact/other/{SOURCE}_0_3"):
        answer = service.get(path)
        assert (answer.json() or {}).get("total_count", 0) == 0
    assert service.post("/all/other", json={"ids": [f"{SOURCE}_0_3"]}).json() is None


def test_a_large_resubmission_is_waited_for_where_there_is_room_to_wait(
    site: Site, nats: Nats, streams: Streams
) -> None:
    site.archive(*map(order, range(20)))
    topic, body = streams.create("compatible-large"), {"broker_id": "orders"}
    with site.serve({"main": nats.url}, compatible=(("c", "main"),), inline_limit=5) as client:
        assert all(views._WAITING.acquire(blocking=False) for _ in range(3))
        try:
            answer = client.post(f"/range/c?topic={topic}", json=body)
        finally:
            views._WAITING.release(3)
        told = answer.json()
        assert (answer.status_code, told["msg"]) == (202, "resubmission goes on")
        whole = client.post(f"/range/c?topic={topic}", json=body).json()
        assert (whole["status"], whole["summary"]) == (200, dict.fromkeys(COUNTS, 20))
        job = f"/v1/resubmissions/{told['resubmission']}"
        wait_until(lambda: client.get(job).json()["state"] == "COMPLETED", 60, "the first one to end")
    assert streams.count(topic) == 40
