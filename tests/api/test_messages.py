"""Searching messages and looking at one."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests._messages import table, with_checksums
from tests.api.conftest import START, Client, Site, order, tamper
from tests.servers import wait_until

ORDERS = {"sources": ["orders"]}


def search(api: Client, **body: object) -> dict:
    response = api.post("/v1/messages/search", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def pages(
    api: Client, limit: int, selection: object = ORDERS, between: Callable[[], object] = lambda: None
) -> list[list[str]]:
    found, cursor = [], None
    while True:
        page = search(api, selection=selection, limit=limit, cursor=cursor)
        found.append([message["id"] for message in page["messages"]])
        cursor = page["next"]
        if cursor is None:
            return found
        between()


def test_an_entry_is_shown_whole(site: Site, api: Client) -> None:
    [location] = site.archive(order(0, key=b"k", headers=[{"name": "version", "value": b"2"}]))
    [entry] = search(api, selection=ORDERS)["messages"]
    assert len(entry.pop("checksum")) == 16
    assert entry == {
        "id": "orders_0_0",
        "source": "orders",
        "topic": "orders",
        "partition": 0,
        "offset": 0,
        "publish_time": "2023-11-14T22:13:20.000000Z",
        "ingestion_time": "2026-11-01T00:00:00.000000Z",
        "key": "k",
        "attributes": {"version": "2"},
        "size": 1 + 7 + 8,
        "traits": ["key", "headers"],
        "location": location,
        "position": 0,
    }


def test_a_key_that_is_no_text_is_marked_base64(site: Site, api: Client) -> None:
    site.archive(order(0, key=b"\xff\x00"), order(1, key=None), order(2, key=b""))
    keys = [message["key"] for message in search(api, selection=ORDERS)["messages"]]
    assert keys == [{"base64": base64.b64encode(b"\xff\x00").decode()}, None, ""]


def test_pages_hold_each_message_once(site: Site, api: Client) -> None:
    site.archive(*(order(n, publish_time=START + n // 7) for n in range(50)))
    found = pages(api, limit=7)
    assert sorted(id for page in found for id in page) == sorted(f"orders_0_{n}" for n in range(50))
    assert [len(page) for page in found] == [7] * 7 + [1]


def test_pages_hold_each_message_once_while_others_are_added(site: Site, api: Client) -> None:
    site.archive(*(order(2 * n) for n in range(20)))
    rounds = itertools.count()

    def add() -> None:
        number = next(rounds)
        site.archive(order(0, publish_time=START - 1), source=f"early{number}")
        site.archive(order(0, publish_time=START + 10**12), source=f"late{number}")

    met = [id for page in pages(api, 3, {"where": [{"offset": {"gte": 0}}]}, add) for id in page]
    assert [id for id in met if id.startswith("orders")] == [f"orders_0_{2 * n}" for n in range(20)]
    assert sorted(id for id in met if not id.startswith("orders")) == sorted(
        f"late{number}_0_0" for number in range(next(rounds))
    )


def test_the_last_page_has_no_cursor_when_it_is_full(site: Site, api: Client) -> None:
    site.archive(*(order(n) for n in range(4)))
    assert pages(api, limit=2) == [["orders_0_0", "orders_0_1"], ["orders_0_2", "orders_0_3"], []]


@pytest.mark.parametrize("cursor", ["", "x", "é", "bnVsbA", "W10", "WyJzIl0", "A" * 9000, "WyJqIiwieCJd"])
def test_a_cursor_that_was_never_given_is_a_clear_problem(api: Client, cursor: str) -> None:
    response = api.post("/v1/messages/search", json={"selection": ORDERS, "cursor": cursor})
    assert response.status_code in ({422} if len(cursor) > 8192 else {400})
    assert "cursor" in response.json()["detail"]


def test_a_cursor_of_another_selection_is_refused(site: Site, api: Client) -> None:
    site.archive(order(0), order(1))
    cursor = search(api, selection=ORDERS, limit=1)["next"]
    response = api.post("/v1/messages/search", json={"selection": {"all": True}, "cursor": cursor})
    assert response.status_code == 400
    assert response.json()["detail"] == "The cursor belongs to another selection; start without a cursor."


def test_relative_times_are_those_of_the_first_page(site: Site, api: Client) -> None:
    now = time.time_ns() // 1000
    site.archive(*[order(n, publish_time=now - (5 - n) * 1_000_000) for n in range(5)])
    # The bound passes the messages while the pages are read.
    recent = {"published_from": "-6s", "published_to": "now"}
    slowly = pages(
        api,
        1,
        recent,
        between=lambda: wait_until(lambda: time.time_ns() // 1000 > now + 2_000_000, 9, "time"),
    )
    assert [*itertools.chain.from_iterable(slowly)] == [f"orders_0_{n}" for n in range(5)]


def test_limit_and_sample_belong_to_resubmissions(api: Client) -> None:
    response = api.post("/v1/messages/search", json={"selection": {**ORDERS, "limit": 3}})
    assert response.status_code == 422
    assert "limit and sample belong to a resubmission" in response.json()["detail"]


def test_a_message_is_shown_with_its_headers_as_they_were(site: Site, api: Client) -> None:
    headers = [
        {"name": "a", "value": b"1"},
        {"name": "a", "value": None},
        {"name": "a", "value": b"\xff"},
        {"name": "<b>", "value": b""},
    ]
    site.archive(order(0), order(1, headers=headers, data=b"12345"))
    message = api.get("/v1/messages/orders_0_1").json()
    assert message["headers"] == [
        {"name": "a", "value": "1"},
        {"name": "a", "value": None},
        {"name": "a", "value": {"base64": "/w=="}},
        {"name": "<b>", "value": ""},
    ]
    assert (message["payload_size"], message["verified_by"]) == (5, "checksum")
    assert api.get(message["payload"]).content == b"12345"


def test_a_key_too_long_to_be_searched_is_shown_with_its_message(site: Site, api: Client) -> None:
    key = "k" * 70_000
    site.archive(order(0, key=key.encode()), order(1, key=b"\xff" * 70_000))
    assert [message["key"] for message in search(api, selection=ORDERS)["messages"]] == [None, None]
    message = api.get("/v1/messages/orders_0_0").json()
    assert (message["key"], message["verified_by"]) == (key, "checksum")
    raw = base64.b64encode(b"\xff" * 70_000).decode()
    assert api.get("/v1/messages/orders_0_1").json()["key"] == {"base64": raw}
    page = api.get("/messages/orders_0_0").text
    assert "k" * 4000 in page
    assert "k" * 5000 not in page
    assert "of 70,000 characters" in page


@pytest.mark.parametrize("format", ["parquet", "avro", "jsonl"])
def test_a_payload_is_a_download_of_its_bytes_that_no_browser_runs(
    site: Site, api: Client, format: str
) -> None:
    script = b"<script>alert(1)</script>\x00\xff"
    site.archive(order(0), order(1, data=script), format=format)
    response = api.get("/v1/messages/orders_0_1/payload")
    assert (response.status_code, response.content) == (200, script)
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Disposition"].startswith('attachment; filename="orders_0_1.bin"')
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_no_payload_is_not_an_empty_one(site: Site, api: Client) -> None:
    site.archive(order(0, data=None), order(1, data=b""))
    assert api.get("/v1/messages/orders_0_0").json()["payload_size"] is None
    assert api.get("/v1/messages/orders_0_1").json()["payload_size"] == 0
    assert api.get("/v1/messages/orders_0_0/payload").status_code == 204
    empty = api.get("/v1/messages/orders_0_1/payload")
    assert (empty.status_code, empty.content) == (200, b"")


@pytest.mark.parametrize("source", ["a/b", "ä ö", 'x"y', "%2e%2e", "a\r\nX-Evil: 1", "../../etc", "<i>"])
def test_an_id_may_hold_any_character(site: Site, api: Client, source: str) -> None:
    site.archive(order(0), source="plain")
    messages = with_checksums(table(order(0)))
    file = site.lake.location("plain/plain-0-00000000000000000000.parquet")
    site.index_under(f"{source}_0_0", messages, file)
    message = api.get(f"/v1/messages/{quote(source, safe='')}_0_0")
    # The file holds the message under another id, so verification tells that the right one was found.
    assert (message.status_code, message.json()["title"]) == (502, "The stored message failed verification")


def test_an_unknown_id_is_not_found(api: Client) -> None:
    response = api.get("/v1/messages/orders_0_99")
    assert (response.status_code, response.json()["detail"]) == (404, "No message with this id is indexed.")


def test_another_content_than_was_archived_is_never_shown(site: Site, api: Client) -> None:
    [location] = site.archive(order(0, data=b"right"))
    wrong = with_checksums(table(order(0, id="orders_0_0", data=b"wrong")))
    tamper(Path(location.removeprefix("file://")), wrong)
    for address in ("/v1/messages/orders_0_0", "/v1/messages/orders_0_0/payload"):
        response = api.get(address)
        assert response.status_code == 502
        assert response.json()["type"] == "urn:persistor:problem:mismatch"
        assert b"wrong" not in response.content


def test_a_file_that_is_gone_is_410(site: Site, api: Client) -> None:
    [location] = site.archive(order(0))
    Path(location.removeprefix("file://")).unlink()
    response = api.get("/v1/messages/orders_0_0/payload")
    assert (response.status_code, response.json()["type"]) == (410, "urn:persistor:problem:gone")


def test_a_truncated_file_is_a_problem_and_not_a_crash(site: Site, api: Client) -> None:
    [location] = site.archive(*(order(n) for n in range(10)))
    path = Path(location.removeprefix("file://"))
    path.write_bytes(path.read_bytes()[:-20])
    response = api.get("/v1/messages/orders_0_3")
    assert (response.status_code, response.json()["type"]) == (502, "urn:persistor:problem:damaged")


@pytest.mark.parametrize(
    "place", ["file:///etc/passwd", "{lake}/../secret.parquet", "s3://elsewhere/x.parquet"]
)
def test_a_location_outside_of_the_lakes_is_never_read(site: Site, api: Client, place: str) -> None:
    (site.directory / "secret.parquet").write_bytes(b"secret")
    site.index_under("orders_0_0", with_checksums(table(order(0))), place.format(lake=site.lake.url))
    response = api.get("/v1/messages/orders_0_0")
    assert (response.status_code, response.json()["type"]) == (502, "urn:persistor:problem:damaged")
    assert "is outside the configured lakes" in response.json()["detail"]
