"""Whatever is wrong with a request, the answer is a problem document and the service stays up."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.api.conftest import Client, Site, order
from tests.servers import wait_until
from tests.servers.mongodb import MongoDB

JSON = {"Content-Type": "application/json"}
SEARCH, PLANS, RESUBMISSIONS = "/v1/messages/search", "/v1/plans", "/v1/resubmissions"


@pytest.fixture
def api(site: Site) -> Iterator[Client]:
    with site.serve({"main": "nats://127.0.0.1:1"}) as client:
        yield client
        assert client.get("/readyz").json() == {"status": "ok", "checks": {"index": "ok"}}


def problem_of(response: requests.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert {"type", "title", "detail"} < set(problem)
    assert "Traceback" not in response.text
    return problem


@pytest.mark.parametrize(
    ("method", "address", "data", "headers", "status"),
    [
        ("GET", "/nowhere", None, {}, 404),
        ("GET", "/v1", None, {}, 404),
        ("GET", "/static/../app.py", None, {}, 404),
        ("GET", "/static/%2e%2e/app.py", None, {}, 404),
        ("DELETE", RESUBMISSIONS, None, {}, 405),
        ("GET", PLANS, None, {}, 405),
        ("POST", SEARCH, "{}", {}, 415),
        ("POST", SEARCH, "{}", {"Content-Type": "text/plain"}, 415),
        ("POST", SEARCH, "a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("POST", SEARCH, "", JSON, 400),
        ("POST", SEARCH, "{", JSON, 400),
        ("POST", SEARCH, b"\xff\xfe", JSON, 400),
        ("POST", SEARCH, '{"limit": NaN}', JSON, 400),
        ("POST", SEARCH, '{"limit": 1, "limit": 2}', JSON, 400),
        ("POST", SEARCH, "[" * 100_000, JSON, 400),
        ("POST", SEARCH, "[]", JSON, 422),
        ("POST", SEARCH, "null", JSON, 422),
        ("POST", SEARCH, '"text"', JSON, 422),
        ("POST", SEARCH, " " * (1 << 20) + "{}", JSON, 413),
        ("POST", SEARCH, " " * (3 << 20) + "{}", JSON, 413),
    ],
)
def test_every_refusal_is_a_problem_document(
    api: Client, method: str, address: str, data: Any, headers: dict[str, str], status: int
) -> None:
    problem_of(api.request(method, address, data=data, headers=headers), status)


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ('{"limit": NaN}', "NaN is not JSON"),
        ('{"a": {"b": 1}, "a": "a-secret"}', "the name 'a' appears twice in one object"),
        ('{"x": 1, "x": 2}'.replace("x", "x" * 99), f"the name {'x' * 50!r} appears twice in one object"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_body_that_is_no_json_is_reported_where_and_without_its_values(
    api: Client, data: str, wrong: str
) -> None:
    problem = problem_of(api.post(SEARCH, data=data, headers=JSON), 400)
    assert problem["title"] == "The request is not JSON"
    assert problem["detail"] == f"The body is not JSON: {wrong}."


def test_all_that_is_wrong_is_named_at_once(api: Client) -> None:
    wrong = {
        "destination": 5,
        "topic": "a b",
        "selection": {"source": ["x"], "published_from": "yesterday"},
        "options": {"timestamp": "never", "lossy": "yes"},
        "brokers": "evil:9092",
    }
    problem = problem_of(api.post(RESUBMISSIONS, json=wrong), 422)
    fields = {error["field"] for error in problem["errors"]}
    assert fields == {
        "destination",
        "topic",
        "selection.source",
        "selection.published_from",
        "options.timestamp",
        "options.lossy",
        "brokers",
    }
    assert all(error["in"] == "body" and error["detail"].endswith(".") for error in problem["errors"])


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "a/b",
        "../x",
        "a?b",
        "a#b",
        "a,b",
        "a*",
        ">",
        "a b",
        "a\r\nb",
        "$JS.API",
        "__consumer_offsets",
        "x" * 250,
        ".",
        "..",
        "ä",
        "a%2fb",
        "a\x00",
    ],
)
def test_a_topic_name_that_could_be_anything_else_is_refused(api: Client, topic: str) -> None:
    body = {"destination": "main", "topic": topic, "selection": {"all": True}}
    [error] = problem_of(api.post(RESUBMISSIONS, json=body), 422)["errors"]
    assert error["field"] == "topic"


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit=1&evil=1", "cursor=%00", "limit=" + "9" * 400],
)
def test_a_wrong_query_is_a_clear_problem(api: Client, query: str) -> None:
    problem = api.get(f"{RESUBMISSIONS}?{query}")
    problem_of(problem, 400 if query.startswith("cursor") else 422)


def test_a_caller_writes_no_lines_of_the_log_and_no_body_is_in_it(
    api: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "resubmit_api")
    api.get("/v1/messages/x%0d%0a2026-01-01%20INFO%20forged")
    api.post(SEARCH, json={"selection": {"ids": ["a-secret"]}})
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("resubmit_api")]
    assert [line.split()[1:4] for line in lines] == [
        ["GET", "/v1/messages/x%0D%0A2026-01-01%20INFO%20forged", "404"],
        ["POST", SEARCH, "200"],
    ]
    assert "secret" not in "".join(lines)


def test_what_is_refused_at_the_door_took_no_time(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "resubmit_api.app")
    with site.serve({"main": "nats://127.0.0.1:1"}, trusted_hosts=["persistor.example"]) as api:
        problem_of(api.get("/v1/sources"), 400)
    [line] = [record.getMessage() for record in caplog.records if record.name == "resubmit_api.app"]
    assert line == "127.0.0.1 GET /v1/sources 400 0.0 ms"


def test_hostile_content_is_shown_as_data(site: Site, api: Client) -> None:
    evil = "<script>alert(1)</script>\r\nX: y"
    site.archive(order(0, key=evil.encode(), headers=[{"name": "<b>", "value": evil.encode()}]))
    response = api.get("/v1/messages/orders_0_0")
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert (response.json()["key"], response.json()["attributes"]) == (evil, {"<b>": evil})


@pytest.mark.parametrize("address", ["/healthz", "/nowhere", "/docs", "/static/style.css", "/openapi.json"])
def test_every_answer_has_the_security_headers(api: Client, address: str) -> None:
    headers = api.get(address).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "Server" not in headers


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
    ],
)
def test_what_the_server_itself_refuses_is_a_problem_document_too(api: Client, head: bytes) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    top, _, content = answer.partition(b"\r\n\r\n")
    assert b"Content-Type: application/problem+json" in top
    assert json.loads(content)["status"] == int(top.split()[1])


@pytest.mark.usefixtures("mongodb")  # skips where there is none; this test kills one of its own
def test_an_index_that_is_away_is_503_until_it_is_back(site: Site, tmp_path: Path) -> None:
    with MongoDB(tmp_path / "mongodb") as server:
        url = f"{server.url}?serverSelectionTimeoutMS=2000"
        with site.serve({"main": "nats://127.0.0.1:1"}, index=url) as api:
            assert api.get("/readyz").status_code == 200
            server.kill()
            for method, address, body in (
                ("GET", "/readyz", None),
                ("GET", "/v1/messages/orders_0_0", None),
                ("GET", RESUBMISSIONS, None),
                ("POST", SEARCH, {"selection": {"all": True}}),
            ):
                response = api.request(method, address, json=body)
                assert problem_of(response, 503)["detail"].startswith("The index does not answer")
                assert response.headers["Retry-After"] == "5"
                assert str(server.port) not in response.text
            assert api.get("/healthz").status_code == 200
            server.start()
            wait_until(lambda: api.get("/readyz").status_code == 200, 60, "the index to be used again")
