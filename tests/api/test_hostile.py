"""Hostile input: it is refused or shown harmlessly, and none of it is code to an index store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import monitoring

from resubmit_api.cursors import job_cursor, search_cursor
from tests.api.conftest import Client, Site, order
from transforms import registry
from transforms.jobs import create
from transforms.jobs.rows import new_row
from transforms.replay.options import Options
from transforms.replay.plans import new_job_id
from transforms.selection import Selection

SEARCH, PLANS, RESUBMISSIONS = "/v1/messages/search", "/v1/plans", "/v1/resubmissions"
EVERYTHING = Selection(all=True)
MARKUP = "<script>alert(1)</script>"
HOSTILE = [
    {"$where": "sleep(5000)"},
    {"$gt": ""},
    {"$function": {"body": "function () { return true }", "args": [], "lang": "js"}},
    "$where",
    "$$ROOT",
    "a.$[].b",
    "'; DROP TABLE entries; --",
    '" OR 1=1 --',
    "%' OR id LIKE '%",
    "../../../../etc/passwd",
    "_persistor/plans/../../x",
    "a\r\nSet-Cookie: evil=1",
    MARKUP,
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}${7*7}",
    "\u0000",
    "\u202e\u200b",
    "\U0001f4a9" * 100,
]
TEXTS = [value for value in HOSTILE if isinstance(value, str)]
ACTIONS = ("pause", "resume", "cancel", "retry")
QUERIES = {
    "/explore": ("selection", "cursor", "from", "to", "ids", "source", "range"),
    "/explore/figures": ("selection",),
    "/resubmit": ("selection", "topic", "destination", "limit", "percent", "order"),
    "/jobs": ("state", "cursor"),
}
FORMS = {
    "/explore/selection": ("source", "from", "ids"),
    "/resubmit": ("selection", "topic", "destination", "limit", "percent", "order", "source_prefix"),
    "/resubmit-request": ("selection", "topic", "destination", "limit", "percent"),
    "/dead-letters/send-back": ("selection", "destination"),
}
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
    ),
    *("$db", "$clusterTime", "$readPreference"),
}
"""Operators of our own queries, and what a client adds to a command."""


def _short(value: Any) -> str:
    return repr(value)[:40]


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


def is_problem(response: requests.Response, *statuses: int) -> None:
    assert response.status_code in statuses, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "Set-Cookie" not in response.headers


def is_page(response: requests.Response) -> None:
    assert response.status_code in {200, 400, 404, 422, 503}, response.text
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Set-Cookie" not in response.headers
    assert MARKUP not in response.text
    assert "<img src=x" not in response.text


@pytest.mark.parametrize("value", HOSTILE, ids=_short)
def test_a_selection_is_data(exposed: Client, value: Any) -> None:
    for selection in (
        {"sources": [value]},
        {"ids": [value]},
        {"where": [{"attributes.version": value}]},
        {"where": [{"id": {"prefix": value}}]},
        {"where": [{"key": {"in": [value]}}]},
        {"where": [{f"attributes.{value}": "2"}]},
        {"where": [{f"attributes.{value}": {"exists": True}}]},
        {"where": [{str(value): "2"}]},
        {"where": [{"size": value}]},
        {"published_from": value},
        {"sources": ["orders"], "limit": value},
        {"all": value},
        value,
    ):
        response = exposed.post(SEARCH, json={"selection": selection})
        if response.status_code == 200:
            assert response.json() == {"messages": [], "next": None}
        else:
            is_problem(response, 422)


@pytest.mark.parametrize("value", HOSTILE, ids=_short)
def test_ids_and_names_are_data(exposed: Client, value: Any) -> None:
    id = quote(str(value), safe="")
    for address in (
        f"/v1/messages/{id}",
        f"/v1/messages/{id}/payload",
        f"{RESUBMISSIONS}/{id}",
        f"{PLANS}/{id}",
    ):
        is_problem(exposed.get(address), 404)
    for action in ACTIONS:
        is_problem(exposed.post(f"{RESUBMISSIONS}/{id}/{action}", json={}), 404)
        is_problem(exposed.post(f"{RESUBMISSIONS}/x/{action}", json={"x": value}), 422)
    is_problem(exposed.patch(f"{RESUBMISSIONS}/{id}", json={"rate": {}}), 404)
    is_problem(exposed.patch(f"{RESUBMISSIONS}/x", json={"rate": {"messages_per_second": value}}), 422)
    is_problem(exposed.post(RESUBMISSIONS, json={"plan": value}), 404, 422)
    whole = {"destination": "main", "topic": "t", "selection": {"ids": ["x"]}}
    for place in (PLANS, RESUBMISSIONS):
        is_problem(exposed.post(place, json=whole | {"topic": value}), 422)
        is_problem(exposed.post(place, json=whole | {"destination": value}), 422)
        is_problem(exposed.post(place, json=whole | {"options": {"order": value}}), 422)
        is_problem(exposed.post(place, json=whole | {"options": value}), 422)
    for name in ("cursor", "state", "limit", "x"):
        is_problem(exposed.get(RESUBMISSIONS, params={name: str(value)}), 400, 422)
    for name in ("cursor", "limit", "x"):
        is_problem(exposed.get("/v1/audit", params={name: str(value)}), 400, 422)
    is_problem(exposed.post(SEARCH, json={"selection": {"all": True}, "cursor": value}), 400, 422)


@pytest.mark.parametrize("value", TEXTS, ids=_short)
def test_a_forged_cursor_is_a_place_in_a_list(exposed: Client, value: str) -> None:
    """Cursors are not signed: whoever makes one gets the rows behind a place, and nothing else."""
    for time in (None, True, 0, -(1 << 63), (1 << 63) - 1):
        cursor = search_cursor(EVERYTHING.to_json(), (time, value))
        found = exposed.post(SEARCH, json={"selection": {"all": True}, "cursor": cursor})
        assert found.status_code == 200, found.text
        is_page(exposed.get("/explore", params={"selection": '{"all": true}', "cursor": cursor}))
    if len(job_cursor(value)) <= 200:
        for address in (RESUBMISSIONS, "/v1/audit"):
            assert exposed.get(address, params={"cursor": job_cursor(value)}).status_code == 200
    is_page(exposed.get("/jobs", params={"cursor": job_cursor(value)}))


@pytest.mark.parametrize("value", HOSTILE, ids=_short)
def test_forms_and_addresses_of_pages_are_data(exposed: Client, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    plain = {"destination": "main", "topic": "t", "selection": '{"ids": ["x"]}'}
    for address, names in QUERIES.items():
        for name in names:
            is_page(exposed.get(address, params={name: text}))
    for address, names in FORMS.items():
        for name in names:
            is_page(exposed.post(address, data=plain | {name: text}))
    line = {"field": f"attributes.{text}", "operator": "eq", "value": text, "join": "and"}
    is_page(exposed.get("/explore", params=line))
    is_page(exposed.post("/explore/selection", data=line))
    id = quote(text, safe="")
    is_page(exposed.get(f"/messages/{id}"))
    if "/" not in text:
        is_page(exposed.get(f"/jobs/{id}"))
        for action in ("run", "rate", *ACTIONS):
            is_page(exposed.post(f"/jobs/{id}/{action}", data={"messages_per_second": text}))


@pytest.mark.parametrize("deep", ["[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900, "NaN", "1e999"])
def test_json_that_could_only_do_harm_is_refused(exposed: Client, deep: str) -> None:
    for selection in (deep, f'{{"x": {deep}}}', f'{{"where": [{{"key": {deep}}}]}}', f'{{"sample": {deep}}}'):
        body = f'{{"destination": "main", "topic": "t", "selection": {selection}}}'
        for address in (SEARCH, PLANS, RESUBMISSIONS):
            sent = exposed.post(address, data=body, headers={"Content-Type": "application/json"})
            is_problem(sent, 400, 422)
        for address in ("/resubmit", "/dead-letters/send-back"):
            sent = exposed.post(address, data={"destination": "main", "topic": "t", "selection": selection})
            assert sent.status_code == 422
            is_page(sent)
        is_page(exposed.get("/explore", params={"selection": selection}))
        is_page(exposed.get("/resubmit", params={"selection": selection}))


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "-1", "0.5", "9" * 400, "0x10", "1_0"])
def test_a_form_takes_numbers_that_a_person_writes(exposed: Client, number: str) -> None:
    form = {"destination": "main", "topic": "t", "selection": '{"ids": ["x"]}'}
    refused = exposed.post("/resubmit", data=form | {"limit": number})
    assert refused.status_code == 422
    assert f'value="{number}"' in refused.text
    is_page(exposed.post("/resubmit-request", data=form | {"percent": number}))


OPERATORS = st.sampled_from(["$eq", "$in", "$gt", "$exists", "$where", "$regex", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(TEXTS),
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$eq", "$in", "$gt", "$exists", "$where", "$regex", "x"]), parts, max_size=2
        )
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [
        *("broker_id", "broker_msg_id", "unique_id", "ordering_key", "location_key", "location_position"),
        *("publish_time", "ingestion_time", "business_source_key"),
        *("additional_metadata.version", "additional_metadata.$where", "$or"),
    ]
)
BODIES = JSON | st.fixed_dictionaries(
    {},
    optional={
        "filters": JSON | st.lists(st.dictionaries(NAMES, JSON, max_size=3), max_size=3),
        "ids": JSON | st.lists(st.text(max_size=5)),
        "broker_id": JSON,
        "lb": JSON | st.just("0001-01-01T00:00:00+14:00"),
        "ub": JSON | st.just("9999-12-31T23:59:59-14:00"),
    },
)


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(body=BODIES)
def test_any_body_at_the_compatible_addresses_is_answered(exposed: Client, body: Any) -> None:
    # 503: a filter that is right is sent, and the destination does not answer.
    for address in ("query/c", "all/c", "resubmit/c?topic=t", "range/c?topic=t", "query/c?topic=t"):
        answer = exposed.post(f"/{address}", data=json.dumps(body))
        assert answer.status_code in {200, 400, 503}, answer.text
        assert answer.json() is None or isinstance(answer.json(), dict | list)


@pytest.mark.parametrize("value", TEXTS, ids=_short)
def test_addresses_that_are_compatible_are_data(exposed: Client, value: str) -> None:
    text = quote(value, safe="")
    for address in (f"/exact/c/{text}", f"/range/c/{text}", f"/range/c/orders?from={text}&limit={text}"):
        answer = exposed.get(address)
        assert answer.status_code in {200, 400}, answer.text
    for address in (f"/resubmit/c?topic={text}", f"/query/{text}?topic={text}"):
        body = {"ids": ["orders_0_0"], "filters": [{"unique_id": "orders_0_0"}]}
        answer = exposed.post(address, json=body)
        assert answer.status_code in {200, 400, 404}, answer.text
        assert answer.status_code != 200 or answer.json()["summary"]["published_count"] == 0


ENDS_OF_TIME = (
    10**18,
    -(10**18),
    (1 << 63) - 1,
    -(1 << 63),
    253_402_300_799_999_999,
    -62_135_596_800_000_000,
)


def archive_hostile(site: Site) -> list[str]:
    """Messages as a hostile producer makes them; the ids."""
    for number, time in enumerate(ENDS_OF_TIME):
        site.archive(order(0, topic="times", publish_time=time), source=f"times-{number}")
    headers = [{"name": name, "value": name.encode()} for name in (*TEXTS, "__proto__", "")]
    letter = [
        {"name": f"persistor-error-{name}", "value": MARKUP.encode()}
        for name in ("category", "source", "reason")
    ]
    row = order(0, topic=MARKUP, key=MARKUP.encode(), headers=headers + letter, data=MARKUP.encode())
    site.archive(row, source=MARKUP.replace("/", "|"))
    stored = pa.concat_tables(list(site.index.select(EVERYTHING, ["id"])))
    return [id for id in stored["id"].to_pylist() if id != "orders_0_0"]


def test_what_a_hostile_producer_sends_is_shown_everywhere_as_data(site: Site, exposed: Client) -> None:
    ids = archive_hostile(site)
    assert len(ids) == len(ENDS_OF_TIME) + 1
    for id in ids:
        address = quote(id, safe="")
        message = exposed.get(f"/v1/messages/{address}")
        assert (message.status_code, message.json()["id"]) == (200, id)
        payload = exposed.get(f"/v1/messages/{address}/payload")
        assert payload.status_code == 200
        assert payload.headers["Content-Disposition"].startswith('attachment; filename="')
        assert payload.headers["Content-Type"] == "application/octet-stream"
        assert exposed.get(f"/exact/c/{address}").json()[0]["unique_id"] == id
        is_page(exposed.get(f"/messages/{address}"))
    page = exposed.post(SEARCH, json={"selection": {"all": True}}).json()
    assert [m["publish_time"][:4] for m in page["messages"]] == ["0001"] * 3 + ["2023"] * 2 + ["9999"] * 3
    assert exposed.post("/query/c", json={"filters": [{"unique_id": {"$exists": True}}]}).status_code == 200
    for address in (
        "/overview",
        "/dead-letters",
        '/explore?selection={"all":true}',
        '/explore/figures?selection={"all":true}',
    ):
        shown = exposed.get(address)
        assert shown.status_code == 200
        is_page(shown)


@pytest.mark.parametrize("value", TEXTS, ids=_short)
def test_a_job_of_whatever_words_is_shown_as_data(site: Site, exposed: Client, value: str) -> None:
    row = new_row(
        destination=value,
        topic=value,
        selection=Selection(sources=(value,)),
        options=Options(),
        requested_by=value,
    )
    failure = {"id": value, "location": value, "category": value, "reason": value}
    row |= {"state": "FAILED", "reason": value, "errors": [failure], "finished": row["created"]}
    create(site.index, row, "resubmit")
    shown = exposed.get(f"{RESUBMISSIONS}/{row['id']}").json()
    assert [shown["topic"], shown["reason"], shown["errors"]] == [value, value, [failure]]
    for address in (f"/jobs/{row['id']}", "/jobs", "/jobs/table", f"/jobs/{row['id']}/progress", "/overview"):
        page = exposed.get(address)
        assert page.status_code == 200
        is_page(page)
    assert exposed.get("/metrics").status_code == 200
